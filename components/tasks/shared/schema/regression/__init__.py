"""Schema of tasks with targets that are numbers."""
