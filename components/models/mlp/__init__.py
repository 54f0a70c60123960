"""Multilayer perceptron over the columns of a table."""
