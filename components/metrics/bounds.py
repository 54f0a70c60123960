"""Compute bounds of metrics from finitely many test cases.

There are bounds for paired answers, for a share, and for calibration.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_BINS = 10


def mcnemar(wins: int, losses: int) -> float:
    """Return the exact two-sided p-value of McNemar's test (1947) for paired answers.

    Args:
        wins: cases that only the first answers correctly.
        losses: cases that only the second answers correctly.
    """
    from scipy.special import bdtr

    if wins + losses == 0:
        return 1.0
    one_sided = float(bdtr(min(wins, losses), wins + losses, 0.5))
    return min(1.0, 2 * one_sided)


def lower_bound(wins: int, losses: int, cases: int, alpha: float) -> float:
    """Return the lower bound of the difference of two paired accuracies.

    It is McNemar's exact test as a bound: that of Clopper and Pearson (1934) for the share of
    wins among the cases that differ. It is above zero exactly where the one-sided test rejects.

    Args:
        wins: cases that only the first answers correctly.
        losses: cases that only the second answers correctly.
        cases: number of all cases.
        alpha: 1 - confidence.
    """
    from scipy.special import betaincinv

    share = float(betaincinv(wins, losses + 1, alpha)) if wins else 0.0
    return (wins + losses) * (2 * share - 1) / cases


def upper_share(right: int, cases: int, alpha: float) -> float:
    """Return the upper bound of an accuracy (Clopper and Pearson 1934).

    Args:
        right: cases that are answered correctly.
        cases: number of all cases.
        alpha: 1 - confidence.
    """
    from scipy.special import betaincinv

    if right >= cases:
        return 1.0
    return float(betaincinv(right + 1, cases - right, 1 - alpha))


def calibration_error(
    confidence: NDArray[np.float64], right: NDArray[np.bool_], alpha: float
) -> tuple[float, float, float]:
    """Return the calibration error of stated probabilities, with bounds.

    It is the root mean square over ten bins of equally many cases. Plain calibration errors
    grow with noise, so that few cases look badly calibrated. Here the variance of each bin's
    gap is subtracted from its square (the debiased estimator of Kumar, Liang and Ma 2019, with
    the variance of the gap itself). The bounds assume that the squared gaps are normal.

    Args:
        confidence: (n,) probability that each answer states.
        right: (n,) whether each answer is correct.
        alpha: probability that the true error is beyond each bound.

    Returns:
        (error, lower bound, upper bound), each in [0, 1].
    """
    import numpy as np
    from scipy.special import ndtri

    gaps = (right - confidence)[np.argsort(confidence, kind="stable")]
    square = 0.0
    variance = 0.0
    for part in np.array_split(gaps, _BINS):
        noise = float(part.var(ddof=1)) / len(part)
        weight = len(part) / len(gaps)
        bias_free = float(part.mean()) ** 2 - noise
        square += weight * bias_free
        variance += weight**2 * (4 * max(bias_free, 0.0) * noise + 2 * noise**2)
    margin = float(ndtri(1 - alpha)) * variance**0.5
    return _bounded_root(square), _bounded_root(square - margin), _bounded_root(square + margin)


def _bounded_root(square: float) -> float:
    """Return the square root of a number after clipping it to [0, 1]."""
    root: float = min(1.0, max(0.0, square)) ** 0.5
    return root
