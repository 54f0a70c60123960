"""Journals of stages in MLflow runs."""
