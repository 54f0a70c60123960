"""The inputs of a table: kinds of columns, and the rows that they make."""
