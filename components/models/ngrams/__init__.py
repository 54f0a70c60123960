"""Bag of n-grams (fastText)."""
