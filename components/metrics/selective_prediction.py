"""Compute the confidence below which an answer counts as "not sure" (selective prediction).

The other answers are then wrong no more often than stated. The threshold is chosen on validation
by Learn then Test (Angelopoulos et al. 2021, arXiv:2110.01052): fixed sequences of thresholds,
each tested with the exact binomial bound (Clopper and Pearson 1934). As with all such bounds, it
holds for queries from the distribution of the validation rows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Thresholds in the table, at equal steps of coverage.
_GRID = 100
# Number of sequences that are tested. They share the level.
_STARTS = 5
# Probability that the error among answered queries is above the stated share.
_LEVEL = 0.05
# Stated errors in the report.
_SHARES = (0.01, 0.02, 0.05, 0.1, 0.2)
# Points of the report's curve.
_STEPS = 50


def abstention_table(confidence: Sequence[float], right: Sequence[bool]) -> dict[str, Any]:
    """Return how many validation cases are answered, and how many wrongly, by threshold.

    Args:
        confidence: (cases,) probability that each answer states for being correct.
        right: (cases,) whether it is.

    Returns:
        {"rows", "thresholds" (k,) falling, "answered" (k,) rising, "wrong" (k,)}, with k up to
        100. A case is answered if its confidence is at least the threshold. So of cases with
        equal confidence all or none are answered.
    """
    if not confidence:
        return {"rows": 0, "thresholds": [], "answered": [], "wrong": []}
    ranked, wrong, ends = _ranked(confidence, right)
    chosen = _at_equal_steps(ends, len(ranked), _GRID)
    return {
        "rows": len(ranked),
        "thresholds": ranked[chosen].tolist(),
        "answered": (chosen + 1).tolist(),
        "wrong": wrong[chosen].tolist(),
    }


def threshold(table: Mapping[str, Any], share: float) -> float:
    """Return the lowest confidence that is answered, so that the error is at most `share`.

    It is infinite if no threshold can guarantee that.

    Args:
        table: of `abstention_table`.
        share: stated error among answered queries.
    """
    thresholds = table["thresholds"]
    count = len(thresholds)
    starts = {math.ceil(count * start / _STARTS) - 1 for start in range(1, _STARTS + 1)} - {-1}
    level = _LEVEL / _STARTS

    def holds(index: int) -> bool:
        return upper_bound(table["wrong"][index], table["answered"][index], level) <= share

    for start in sorted(starts, reverse=True):
        index = start
        # The sequence continues while the bound holds. The sequence before it, with more
        # answers, has already failed.
        while index < count and holds(index):
            index += 1
        if index > start:
            return float(thresholds[index - 1])
    return math.inf


def upper_bound(wrong: int, answered: int, level: float) -> float:
    """Return the error that is exceeded with a probability of at most `level`.

    It is the one-sided bound of Clopper and Pearson.

    Args:
        wrong: wrong answers.
        answered: all answers.
        level: probability.
    """
    from scipy.stats import beta

    if wrong >= answered:
        return 1.0
    return float(beta.ppf(1 - level, wrong + 1, answered - wrong))


def outcome(confidence: Sequence[float], right: Sequence[bool], least: float) -> dict[str, Any]:
    """Return the share of answered cases, and the share of wrong answers among them.

    Args:
        confidence: (cases,) of the answers.
        right: (cases,) whether they are correct.
        least: threshold.

    Returns:
        {"answered", "wrong"}. "wrong" is None where nothing is answered.
    """
    answered = np.asarray(confidence) >= least
    errors = ~np.asarray(right, dtype=bool)[answered]
    return {
        "answered": float(answered.mean()) if len(answered) else 0.0,
        "wrong": float(errors.mean()) if len(errors) else None,
    }


def coverage_report(
    table: Mapping[str, Any], confidence: Sequence[float], right: Sequence[bool]
) -> dict[str, Any]:
    """Return the data of the report: the curve on test, and the outcome of each stated error.

    Args:
        table: of validation.
        confidence: (cases,) of the test answers.
        right: (cases,) whether they are correct.

    Returns:
        {"curve": rows {"coverage", "accuracy", "threshold"}, "shares": rows {"stated", "threshold",
        "answered", "wrong"}}. The threshold is None where none can guarantee the stated error.
    """
    if not confidence:
        return {}
    ranked, wrong, ends = _ranked(confidence, right)
    curve = []
    for index in _at_equal_steps(ends, len(ranked), _STEPS).tolist():
        answered = index + 1
        point = {
            "coverage": answered / len(ranked),
            "accuracy": 1 - int(wrong[index]) / answered,
            "threshold": float(ranked[index]),
        }
        curve.append(point)
    shares = []
    for stated in _SHARES:
        least = threshold(table, stated)
        row = {
            "stated": stated,
            "threshold": least if math.isfinite(least) else None,
            **outcome(confidence, right, least),
        }
        shares.append(row)
    return {"curve": curve, "shares": shares}


def _at_equal_steps(ends: NDArray[np.int64], cases: int, steps: int) -> NDArray[np.int64]:
    """Return the ends that are next to equal steps of coverage.

    Args:
        ends: last index of each distinct confidence, ascending.
        cases: number of cases.
        steps: number of steps.
    """
    indices = np.ceil(cases * np.arange(1, steps + 1) / steps).astype(int) - 1
    return np.unique(ends[np.searchsorted(ends, indices)])


def _ranked(
    confidence: Sequence[float], right: Sequence[bool]
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
    """Return confidences in falling order (n,), and the wrong answers up to each (n,).

    The third array has the last index of each distinct confidence.
    """
    values = np.asarray(confidence, dtype=np.float64)
    order = np.argsort(-values, kind="stable")
    ranked = values[order]
    wrong = np.cumsum(~np.asarray(right, dtype=bool)[order])
    ends = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True))
    return ranked, wrong, ends
