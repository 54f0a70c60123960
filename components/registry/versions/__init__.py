"""Bundles in the model registry."""
