"""Params of `tokenize`: all of them belong to the task."""

from __future__ import annotations

from components.core.params import Strict


class TokenizeParams(Strict):
    """No params that hold for every task."""
