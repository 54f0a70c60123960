"""Rows of tables for exported models."""
