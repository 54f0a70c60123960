"""Labels of a source: other names for them, and doubts about them."""

from __future__ import annotations


class SourceLabels:
    """Rules for labels as a source writes them (ingest)."""
