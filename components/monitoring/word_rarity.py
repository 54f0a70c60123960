"""How rare the words of a text are: the mean, over its words, of their inverse document frequency (Sparck Jones 1972) among the training texts, under a hash."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

_BUCKETS = 1 << 14  # of words: the hash's last bits
_DIGITS = 3


def learn(rows: Sequence[NDArray[np.int64]]) -> tuple[dict[str, Any], list[float]]:
    """Count in how many texts words occur.

    Args:
        rows: of each text the hashes of its different words.

    Returns:
        What `Rarity` takes, and the rarity of each text as the others tell it: told by itself too, training would look more usual than anything new can.
    """
    owner = np.repeat(np.arange(len(rows)), [len(each) for each in rows])
    buckets = np.concatenate(rows) % _BUCKETS
    seen = np.bincount(np.unique(owner * _BUCKETS + buckets) % _BUCKETS, minlength=_BUCKETS)
    step = float(np.log(1 + len(rows))) / 255
    told, others = (
        np.round(np.log((1 + len(rows)) / (1 + np.maximum(counts, 0))) / step).astype(np.uint8)
        for counts in (seen, seen - 1)
    )
    sums, words = (
        np.bincount(owner, others[buckets], len(rows)),
        np.bincount(owner, minlength=len(rows)),
    )
    return {"step": step, "steps": base64.b64encode(told.tobytes()).decode()}, (
        sums / np.maximum(words, 1) * step
    ).round(_DIGITS).tolist()


class Rarity:
    """Of new texts.

    Args:
        told: what `learn` counted.
    """

    def __init__(self, told: Mapping[str, Any]) -> None:
        self._step, self._steps = (
            float(told["step"]),
            np.frombuffer(base64.b64decode(told["steps"]), dtype=np.uint8),
        )

    def of(self, places: NDArray[np.int64]) -> float:
        """From the hashes of its different words; 0 without words."""
        return (
            round(float(self._steps[places % _BUCKETS].mean()) * self._step, _DIGITS)
            if len(places)
            else 0.0
        )
