"""Params of a new pipeline, from the columns of a user's table."""
