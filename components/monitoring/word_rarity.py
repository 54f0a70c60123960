"""Rarity of the words of a text.

It is the mean, over the words of a text, of their inverse document frequency (Sparck Jones 1972)
among the training texts. Words are known by a hash.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from components.core.sorted_arrays import distinct

# buckets of words: the last bits of their hashes
_BUCKETS = 1 << 14
_DIGITS = 3


def learn(rows: Sequence[NDArray[np.int64]]) -> tuple[dict[str, Any], list[float]]:
    """Count in how many texts words occur.

    The rarity of a training text is computed from the other texts. Computed from itself too,
    training would look more usual than any new text can.

    Args:
        rows: of each text the hashes of its different words.

    Returns:
        The counts that `Rarity` takes, and the rarity of each text.
    """
    text_of_word = np.repeat(np.arange(len(rows)), [len(hashes) for hashes in rows])
    buckets = np.concatenate(rows) % _BUCKETS
    pairs = distinct(text_of_word * _BUCKETS + buckets)
    document_counts = np.bincount(pairs % _BUCKETS, minlength=_BUCKETS)
    step = float(np.log(1 + len(rows))) / 255

    def steps_of(counts: NDArray[np.int64]) -> NDArray[np.uint8]:
        frequencies = np.log((1 + len(rows)) / (1 + np.maximum(counts, 0)))
        return np.round(frequencies / step).astype(np.uint8)

    steps = steps_of(document_counts)
    without_itself = steps_of(document_counts - 1)
    sums = np.bincount(text_of_word, without_itself[buckets], len(rows))
    words = np.bincount(text_of_word, minlength=len(rows))
    rarities = (sums / np.maximum(words, 1) * step).round(_DIGITS).tolist()
    return {"step": step, "steps": base64.b64encode(steps.tobytes()).decode()}, rarities


class Rarity:
    """Computes the rarity of new texts.

    Args:
        counts: what `learn` returned.
    """

    def __init__(self, counts: Mapping[str, Any]) -> None:
        self._step = float(counts["step"])
        self._steps = np.frombuffer(base64.b64decode(counts["steps"]), dtype=np.uint8)

    def of(self, hashes: NDArray[np.int64]) -> float:
        """Return the rarity of a text; 0 for a text without words.

        Args:
            hashes: of the different words of the text.
        """
        if not len(hashes):
            return 0.0
        mean = float(self._steps[hashes % _BUCKETS].mean())
        return round(mean * self._step, _DIGITS)
