"""Classification of rows of a table."""
