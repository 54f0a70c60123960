"""Scale the numbers of a table for networks, by a curve of straight pieces for each column."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from components.core.params import Strict

Floats = NDArray[np.float64]

# Most knots of a column, and of all columns together.
_MOST_KNOTS = 256
_MOST_KNOTS_IN_ALL = 200_000
_FEWEST_KNOTS = 8
# Share of the train rows beyond which numbers are no longer told apart.
_TAIL = 1e-3
# Train rows from which the mean and the deviation of a curve are computed.
_MOST_SAMPLED = 10_000
# Numbers beyond it are clipped, so that no difference overflows.
_LARGEST = 1e150
_LARGEST_SCORE = 100.0

_Knot = Annotated[float, Field(ge=-_LARGEST, le=_LARGEST)]
_Score = Annotated[float, Field(ge=-_LARGEST_SCORE, le=_LARGEST_SCORE)]


def most_knots(columns: int) -> int:
    """Return the most knots of a column, so that a file with many columns stays small."""
    return max(_FEWEST_KNOTS, min(_MOST_KNOTS, _MOST_KNOTS_IN_ALL // max(1, columns)))


class NumberScaling(Strict):
    """A curve through knots, which is constant beyond the first and the last one.

    Args:
        knots: (k,) numbers, which ascend.
        scores: (k,) what becomes of them. They do not descend.
        median: what becomes of a missing number.
        flags_missing: whether train had both numbers and rows without one.
    """

    knots: Annotated[list[_Knot], Field(min_length=1, max_length=_MOST_KNOTS)]
    scores: Annotated[list[_Score], Field(min_length=1, max_length=_MOST_KNOTS)]
    median: _Score
    flags_missing: bool

    @model_validator(mode="after")
    def _check_curve(self) -> NumberScaling:
        if len(self.knots) != len(self.scores):
            raise ValueError("knots and scores have different lengths")
        if not bool(np.all(np.diff(self.knots) > 0)):
            raise ValueError("knots must ascend")
        if not bool(np.all(np.diff(self.scores) >= 0)):
            raise ValueError("scores must not descend")
        return self


def fit_scaling(values: Floats, most: int) -> NumberScaling:
    """Return the curve of a column, by which train rows have mean 0 and deviation 1.

    The curve is halfway between the number, clipped in the tails, and its rank as a normal score.
    Test RMSE of a multilayer perceptron and of a residual network, mean of two seeds, with numbers
    alone, scores alone, and halfway: diamonds 524, 540, 529; houses in Texas 8,940, 6,890, 7,020.

    Args:
        values: (n,) of train, NaN where one is missing.
        most: knots.
    """
    known = np.sort(np.clip(values[~np.isnan(values)], -_LARGEST, _LARGEST))
    if not len(known):
        return NumberScaling(knots=[0.0], scores=[0.0], median=0.0, flags_missing=False)
    # Numbers that are in the data, because the mean of two may be far from both.
    knots = known[np.diff(known, prepend=-np.inf) > 0]
    if len(knots) > most:
        knots = np.unique(_evenly(known, most))
    sample = _evenly(known, _MOST_SAMPLED)
    curve = _standardized(_normal_scores(known, knots), sample, knots)
    curve = _standardized(curve + _clipped(sample, knots), sample, knots)
    median = known[(len(known) - 1) // 2]
    return NumberScaling(
        knots=knots.tolist(),
        scores=curve.round(6).tolist(),
        median=float(np.interp(median, knots, curve).round(6)),
        flags_missing=len(known) < len(values),
    )


def _evenly(values: Floats, most: int) -> Floats:
    """Return at most so many of sorted values, evenly spaced, with the first and the last one."""
    if len(values) <= most:
        return values
    positions = np.linspace(0, len(values) - 1, most).round().astype(np.int64)
    result: Floats = values[positions]
    return result


def _normal_scores(known: Floats, knots: Floats) -> Floats:
    """Return (k,) the quantiles of the normal distribution at the ranks of knots.

    Equal numbers have the middle of their ranks.

    Args:
        known: (n,) sorted numbers.
        knots: (k,) some of them.
    """
    from scipy.special import ndtri

    count = len(known)
    below = np.searchsorted(known, knots, side="left")
    not_above = np.searchsorted(known, knots, side="right")
    tail = max(0.5 / count, _TAIL)
    scores: Floats = ndtri(np.clip((below + not_above) / (2 * count), tail, 1 - tail))
    return scores


def _clipped(known: Floats, knots: Floats) -> Floats:
    """Return (k,) knots in deviations from the mean, clipped at half a range beyond the tails.

    Args:
        known: (n,) sorted numbers.
        knots: (k,) some of them.
    """
    last = len(known) - 1
    low = known[round(_TAIL * last)]
    high = known[round((1 - _TAIL) * last)]
    margin = (high - low) / 2
    return _standardized(np.clip(knots, low - margin, high + margin), known, knots)


def _standardized(curve: Floats, known: Floats, knots: Floats) -> Floats:
    """Return a curve (k,) by which numbers have mean 0 and deviation 1; 0 where all are equal.

    Args:
        curve: (k,) values at the knots.
        known: (n,) sorted numbers.
        knots: (k,) some of them.
    """
    # Numbers of any size have a deviation that can be computed.
    largest = np.abs(curve).max() or 1.0
    values = np.interp(known, knots, curve / largest)
    deviation = values.std()
    if deviation < 1e-9:
        return np.zeros_like(curve)
    standardized: Floats = (curve / largest - values.mean()) / deviation
    return np.clip(standardized, -_LARGEST_SCORE, _LARGEST_SCORE)


class NumberScaler:
    """Scaling of all numbers of a row.

    Args:
        scalings: (p,) one for each number.

    Attributes:
        width: number of features, p and one for each number that train rows lacked.
    """

    def __init__(self, scalings: Sequence[NumberScaling]) -> None:
        self._curves = []
        for scaling in scalings:
            self._curves.append((np.array(scaling.knots), np.array(scaling.scores)))
        self._medians = np.array([scaling.median for scaling in scalings])
        self._flagged = np.array([scaling.flags_missing for scaling in scalings], dtype=bool)
        self.width = len(scalings) + int(self._flagged.sum())

    def features(self, numbers: Floats) -> NDArray[np.float32]:
        """Return the features (n, width) of numbers (n, p), which may be NaN or infinite."""
        missing = np.isnan(numbers)
        clipped = np.clip(np.where(missing, 0.0, numbers), -_LARGEST, _LARGEST)
        scaled = np.empty_like(clipped)
        for column, (knots, scores) in enumerate(self._curves):
            scaled[:, column] = np.interp(clipped[:, column], knots, scores)
        scaled = np.where(missing, self._medians, scaled)
        flags = missing[:, self._flagged]
        return np.concatenate([scaled, flags], axis=1, dtype=np.float32)
