"""Roles, checks and targets that the facet schema.py of several tasks is made of."""
