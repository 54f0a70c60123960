"""The architecture of ensembles, which all tasks have."""
