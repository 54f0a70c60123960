"""Rows of a table as numbers, for networks and trees."""
