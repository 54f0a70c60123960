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
    seen = np.zeros(_BUCKETS, dtype=np.int64)
    for each in rows:
        seen[np.unique(each % _BUCKETS)] += 1
    step = float(np.log(1 + len(rows))) / 255
    told, others = (np.round(np.log((1 + len(rows)) / (1 + np.maximum(counts, 0))) / step).astype(np.uint8) for counts in (seen, seen - 1))
    return {"step": step, "steps": base64.b64encode(told.tobytes()).decode()}, [_mean(others, step, each) for each in rows]


class Rarity:
    """Of new texts.

    Args:
        told: what `learn` counted.
    """

    def __init__(self, told: Mapping[str, Any]) -> None:
        self._step, self._steps = float(told["step"]), np.frombuffer(base64.b64decode(told["steps"]), dtype=np.uint8)

    def of(self, places: NDArray[np.int64]) -> float:
        """From the hashes of its different words; 0 without words."""
        return _mean(self._steps, self._step, places)


def _mean(steps: NDArray[np.uint8], step: float, places: NDArray[np.int64]) -> float:
    return round(float(steps[places % _BUCKETS].mean()) * step, _DIGITS) if len(places) else 0.0
