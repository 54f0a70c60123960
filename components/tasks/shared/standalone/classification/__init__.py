"""Answers of exported models whose answer is a class."""
