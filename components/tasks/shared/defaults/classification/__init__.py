"""Params of a new pipeline of tasks with targets that are classes."""
