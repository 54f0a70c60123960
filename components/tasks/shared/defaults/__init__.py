"""Code of `gristmill new`, which no stage runs: .dvcignore hides it."""
