"""The tracking store: opened, backed up, restored, moved."""
