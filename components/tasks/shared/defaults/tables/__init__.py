"""Params of a new pipeline of tasks with inputs that are columns of a table."""
