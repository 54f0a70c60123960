"""Somebody else's encoder, through transformers."""
