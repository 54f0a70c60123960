"""Abstention: below which confidence an answer counts as "not sure", so that the others are wrong
no more often than stated.

The threshold is chosen on validation by Learn then Test (Angelopoulos et al. 2021,
arXiv:2110.01052): fixed sequences of thresholds, each tested with the exact binomial bound (Clopper
and Pearson 1934). As with all such bounds, it holds for questions that come as the validation rows
did.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from components.core.errors import InputError

KEY = "abstention"  # in the profile of a bundle's card, which the registry holds the hash of
_GRID = 100  # thresholds that are kept, at equal steps of coverage
_STARTS = 5  # of the sequences that are tested; they share the level
# The chance that the error among answered questions is above the stated share all the same.
_LEVEL = 0.05
_SHARES = (0.01, 0.02, 0.05, 0.1, 0.2)  # that the report shows
_STEPS = 50  # points of the report's curve


def abstention_table(confidence: Sequence[float], right: Sequence[bool]) -> dict[str, Any]:
    """Return how many validation cases would be answered, and how many of them wrongly, at up to a
    hundred thresholds.

    Args:
        confidence: (cases,) what each answer states for being right.
        right: (cases,) whether it is.

    Returns:
        {"rows", "thresholds" (k,) falling, "answered" (k,) rising, "wrong" (k,)}. A case is
        answered if its confidence is at least the threshold: of equal ones all or none.
    """
    if not confidence:
        return {"rows": 0, "thresholds": [], "answered": [], "wrong": []}
    ranked, wrong, ends = _ranked(confidence, right)
    wanted = np.ceil(len(ranked) * np.arange(1, _GRID + 1) / _GRID).astype(int) - 1
    chosen = np.unique(ends[np.searchsorted(ends, wanted)])
    return {
        "rows": len(ranked),
        "thresholds": ranked[chosen].tolist(),
        "answered": (chosen + 1).tolist(),
        "wrong": wrong[chosen].tolist(),
    }


def threshold(table: Mapping[str, Any], share: float) -> float:
    """Return the lowest confidence that is answered, for the error among answered questions to be
    at most `share`; infinite if no threshold can promise that.

    Args:
        table: of `abstention_table`.
        share: stated error.
    """
    thresholds, answered, wrong = table["thresholds"], table["answered"], table["wrong"]
    starts = sorted(
        {math.ceil(len(thresholds) * start / _STARTS) - 1 for start in range(1, _STARTS + 1)}
        - {-1},
        reverse=True,
    )
    level = _LEVEL / _STARTS
    for start in starts:
        index = start
        # The sequence goes on while it holds; the one before it, with more answers, has
        # already failed.
        while (
            index < len(thresholds) and upper_bound(wrong[index], answered[index], level) <= share
        ):
            index += 1
        if index > start:
            return float(thresholds[index - 1])
    return math.inf


def threshold_of(profile: Mapping[str, Any], share: float, where: str) -> float:
    """Return the threshold of a model from what evaluate wrote into its card.

    Args:
        profile: of the card.
        share: `serve.abstain`.
        where: what a message names.

    Raises:
        InputError: the card holds none.
    """
    table: Any = profile.get(KEY)
    if not _is_table(table):
        what = (
            "tells nothing of how sure the model was on validation: it was made before "
            "abstention, or its answers state no probability"
        )
        raise InputError(
            what,
            where=where,
            remedy="gristmill run makes a model that can; or set serve.abstain: null",
        )
    return threshold(table, share)


def upper_bound(wrong: int, answered: int, level: float) -> float:
    """Return the error that is exceeded with a chance of at most `level`, given so many wrong of so
    many (Clopper and Pearson, one-sided).
    """
    from scipy.stats import beta

    return 1.0 if wrong >= answered else float(beta.ppf(1 - level, wrong + 1, answered - wrong))


def outcome(confidence: Sequence[float], right: Sequence[bool], least: float) -> dict[str, Any]:
    """Return {"answered", "wrong"}: shares of all cases and of the answered ones, at a threshold;
    "wrong" is None where nothing is answered.
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
    """Return what the report shows: the curve on test, and what each stated error comes to.

    Args:
        table: of validation.
        confidence: (cases,) of the test answers.
        right: (cases,) whether they are.

    Returns:
        {"curve": rows {"coverage", "accuracy", "threshold"}, "shares": rows {"stated", "threshold",
        "answered", "wrong"}}; the threshold is None where none can promise the stated error.
    """
    if not confidence:
        return {}
    ranked, wrong, ends = _ranked(confidence, right)
    wanted = np.ceil(len(ranked) * np.arange(1, _STEPS + 1) / _STEPS).astype(int) - 1
    chosen = np.unique(ends[np.searchsorted(ends, wanted)])
    curve = [
        {
            "coverage": (index + 1) / len(ranked),
            "accuracy": 1 - int(wrong[index]) / (index + 1),
            "threshold": float(ranked[index]),
        }
        for index in chosen.tolist()
    ]
    shares = []
    for stated in _SHARES:
        least = threshold(table, stated)
        shares.append(
            {
                "stated": stated,
                "threshold": least if math.isfinite(least) else None,
                **outcome(confidence, right, least),
            }
        )
    return {"curve": curve, "shares": shares}


def _ranked(
    confidence: Sequence[float], right: Sequence[bool]
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
    """Return confidences from the highest on (n,), wrong answers up to each (n,), and the last
    place of each distinct confidence.
    """
    values = np.asarray(confidence, dtype=np.float64)
    order = np.argsort(-values, kind="stable")
    ranked = values[order]
    wrong = np.cumsum(~np.asarray(right, dtype=bool)[order])
    ends = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True))
    return ranked, wrong, ends


def _is_table(table: Any) -> bool:
    """Return whether something from a card is a table with at least one threshold."""
    if not isinstance(table, Mapping) or not {"thresholds", "answered", "wrong"} <= table.keys():
        return False
    columns = [table[name] for name in ("thresholds", "answered", "wrong")]
    if not all(isinstance(column, list) and len(column) == len(columns[0]) for column in columns):
        return False
    values = chain.from_iterable(columns)
    return bool(columns[0]) and all(isinstance(value, int | float) for value in values)
