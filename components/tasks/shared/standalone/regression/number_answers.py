"""Turn a logit into a number with its interval. Exported folders have a copy of this module."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

ANSWER_FIELDS = ("value", "low", "high", "coverage")


def answer_of(logits: NDArray[Any], card: Mapping[str, Any]) -> dict[str, Any]:
    """Return the answer of one row: center + scale * logit, and the interval of its group.

    Args:
        logits: (1, 1).
        card: of the model, with center, scale and the table of intervals.
    """
    logit = float(np.asarray(logits, dtype=np.float64)[0, 0])
    value = card["center"][0] + card["scale"][0] * logit
    answer = {"value": value, "low": None, "high": None, "coverage": None}
    intervals = card["profile"].get("intervals")
    if intervals is None:
        return answer
    group = bisect_right(intervals["edges"], value)
    below = intervals["below"][group]
    above = intervals["above"][group]
    if below is None or above is None or not math.isfinite(value - below + above):
        return answer
    ends = {"low": value - below, "high": value + above, "coverage": intervals["coverage"]}
    return {**answer, **ends}
