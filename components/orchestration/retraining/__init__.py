"""Retrains in a copy of the project, and what starts them."""
