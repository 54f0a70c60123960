"""Losses that the facet loss.py of several tasks is made of."""
