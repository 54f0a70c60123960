"""Architectures that the facet models.py of several tasks is made of."""
