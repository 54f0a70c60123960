"""Drift checks of logged answers, and the alerts that follow."""
