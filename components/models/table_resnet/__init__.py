"""Residual network over the columns of a table."""
