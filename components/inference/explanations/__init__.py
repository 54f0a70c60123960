"""Explain answers: what each part of a query contributes."""
