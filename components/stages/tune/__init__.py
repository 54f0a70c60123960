"""The stage `tune`."""
