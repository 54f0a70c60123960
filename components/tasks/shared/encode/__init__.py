"""Encoders that the facet encode.py of several tasks is made of."""
