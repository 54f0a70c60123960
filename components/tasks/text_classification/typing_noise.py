"""Type a text with mistakes: letters that are swapped, dropped or doubled.

Such noise is that of Belinkov and Bisk 2018 (arXiv:1711.02173). Scripts without spaces between
words are left as they are: in them a lost character may be a lost word.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np

from components.tasks.base import QueryChange

# Words of at least four letters, but for Han, kana and Hangul.
_WORD = re.compile(r"[^\W\d_\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\uac00-\ud7af]{4,}")
# Share of these words that get a mistake; at least one does.
_SHARE = 0.1

# Two neighboring letters -> what is typed for them.
Mistake = Callable[[str, str], str]


def mistyped(text: str, mistake: Mistake, rng: np.random.Generator) -> str:
    """Return a text with a mistake in some of its words, never in a first or last letter.

    Args:
        text: to type.
        mistake: that is made.
        rng: chooses words and letters.
    """
    words = list(_WORD.finditer(text))
    count = math.ceil(_SHARE * len(words))
    chosen = sorted(rng.permutation(len(words))[:count].tolist(), reverse=True)
    for number in chosen:
        word = words[number]
        at = int(rng.integers(word.start() + 1, word.end() - 2))
        text = text[:at] + mistake(text[at], text[at + 1]) + text[at + 2 :]
    return text


def _change(name: str, zh: str, mistake: Mistake) -> QueryChange:
    """Return a mistake as a change of queries."""

    def apply(query: Any, rng: np.random.Generator) -> Any:
        """Return the query with mistakes in its text."""
        return query.model_copy(update={"text": mistyped(query.text, mistake, rng)})

    return QueryChange(name, zh, apply)


TYPING_NOISE = (
    _change("letters swapped", "字母颠倒", lambda one, other: other + one),
    _change("letters dropped", "漏打字母", lambda _, other: other),
    _change("letters doubled", "重复字母", lambda one, other: one + one + other),
)
