"""Batch prediction over files."""
