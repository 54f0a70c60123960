"""Compute metrics of numbers as answers, from statistics of single cases."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]


def rmse(errors: Values) -> float:
    """Return the root of the mean squared error.

    Args:
        errors: (n,) answer minus truth.
    """
    return float(np.sqrt(np.mean(np.square(errors))))


def mae(errors: Values) -> float:
    """Return the mean absolute error.

    Args:
        errors: (n,) answer minus truth.
    """
    return float(np.mean(np.abs(errors)))


def r2(errors: Values, truths: Values) -> float:
    """Return the share of the variance of the truths that the answers explain.

    It is negative where the mean of the truths would be the better answer, and NaN where all
    truths are equal.

    Args:
        errors: (n,) answer minus truth.
        truths: (n,) of the cases.
    """
    spread = float(np.sum(np.square(truths - np.mean(truths))))
    if spread == 0:
        return float("nan")
    return 1 - float(np.sum(np.square(errors))) / spread


def pinball(errors: Values, level: float) -> float:
    """Return the mean pinball loss of answers that are quantiles (Koenker and Bassett 1978).

    Args:
        errors: (n,) answer minus truth.
        level: of the quantile, 0-1.
    """
    return float(np.mean(np.maximum((level - 1) * -errors, level * -errors)))


def relative_gain(
    mine: Values, theirs: Values, alpha: float, resamples: int = 2000, seed: int = 0
) -> tuple[float, float, float]:
    """Return by which share the RMSE is smaller than another model's, with one-sided bounds.

    The bounds are percentiles of a paired bootstrap (Efron 1979): each resample draws the same
    cases of both models.

    Args:
        mine: (n,) errors of the first model.
        theirs: (n,) errors of the other model on the same cases.
        alpha: chance that a bound does not hold, each.
        resamples: number of bootstrap resamples.
        seed: of the resamples.

    Returns:
        (gain, lower bound, upper bound). 0.02: the RMSE is smaller by 2%. Where the other model
        makes no error at all, the gain is 0 or minus infinity.
    """
    squares = np.stack([np.square(mine), np.square(theirs)])  # (2, n)
    gain = float(_gains(squares.mean(1)[None])[0])
    rng = np.random.default_rng(seed)
    count = squares.shape[1]
    means = np.empty((resamples, 2))
    for number in range(resamples):
        rows = rng.integers(0, count, count)
        means[number] = squares[:, rows].mean(1)
    low, high = np.quantile(_gains(means), [alpha, 1 - alpha], method="nearest")
    return gain, float(low), float(high)


def _gains(means: Values) -> Values:
    """Return (k,) relative gains from mean squared errors (k, 2): mine, theirs."""
    mine = np.sqrt(means[:, 0])
    theirs = np.sqrt(means[:, 1])
    worst = np.where(mine > 0, -np.inf, 0.0)
    gains: Values = np.where(theirs > 0, 1 - mine / np.where(theirs > 0, theirs, 1.0), worst)
    return gains
