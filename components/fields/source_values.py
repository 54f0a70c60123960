"""Texts of a source that stand for a missing value or for a whole number."""

from __future__ import annotations

import re

_NOTHING = frozenset({"", "nan", "<na>", "null"})
# The longest of them has fewer characters than this.
_NOTHING_LENGTH = 8
_WHOLE = re.compile(r"([+-]?\d+)\.0+")


def is_nothing(text: str) -> bool:
    """Return whether a text stands for a missing value: blank, NaN, null."""
    if not text or text.isspace():
        return True
    return len(text) < _NOTHING_LENGTH and text.strip().casefold() in _NOTHING


def whole_number(word: str) -> str:
    """Return a whole number without the .0 that pandas writes where a column has a NaN."""
    match = _WHOLE.fullmatch(word)
    return match[1] if match else word
