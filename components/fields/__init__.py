"""Kinds of data: how one is cleaned, compared, described and shown."""
