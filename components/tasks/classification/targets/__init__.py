"""Rules for the target of classification tasks, in a source and in clean rows."""
