"""The service of one pipeline beside its registry."""
