"""Baselines that the facet baselines.py of several tasks is made of."""
