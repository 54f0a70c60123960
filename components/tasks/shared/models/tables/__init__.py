"""Architectures of tasks with inputs that are columns of a table."""
