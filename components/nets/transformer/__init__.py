"""Transformer encoder."""
