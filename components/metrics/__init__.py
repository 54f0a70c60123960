"""Metrics of answers, and what finite samples of them can prove."""
