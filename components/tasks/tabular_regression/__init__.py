"""Regression on tables: rows of columns of any kind, and a number to answer."""
