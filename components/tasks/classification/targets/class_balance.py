"""Classes of clean rows: small ones, conflicts, and the strata of the split."""

from __future__ import annotations


class CleanLabels:
    """Rules for the labels of clean rows (clean)."""
