"""Knobs of `tokenize`: all of them are the task's."""

from __future__ import annotations

from components.core.params import Strict


class TokenizeParams(Strict):
    """None that hold for every task."""
