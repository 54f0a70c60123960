"""Loss of tasks with targets that are classes."""
