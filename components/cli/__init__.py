"""The `gristmill` command: parsing and printing, one module for each group of commands."""
