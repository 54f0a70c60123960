"""Evaluator of tasks with targets that are numbers."""
