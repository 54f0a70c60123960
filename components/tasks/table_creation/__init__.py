"""Inputs and params of a new pipeline from a user's table: code of `gristmill new` alone.

It is no part of `components.tasks.tables`, which stages depend on.
"""
