"""What figures from finite test cases can prove: bounds for paired answers, for a share, for calibration. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_BINS = 10


def mcnemar(wins: int, losses: int) -> float:
    """The exact two-sided p-value of McNemar's test (1947) for paired answers that differ.

    Args:
        wins: cases that only the first answers rightly.
        losses: cases that only the second answers rightly.
    """
    from scipy.special import bdtr

    return (
        min(1.0, 2 * float(bdtr(min(wins, losses), wins + losses, 0.5))) if wins + losses else 1.0
    )


def lower_bound(wins: int, losses: int, cases: int, alpha: float) -> float:
    """What the difference of two paired accuracies is at least, with confidence 1 - alpha.

    McNemar's exact test turned into a bound: Clopper and Pearson's (1934) for the share of wins among the cases that differ. It is above zero just where the one-sided test rejects.
    """
    from scipy.special import betaincinv

    share = float(betaincinv(wins, losses + 1, alpha)) if wins else 0.0
    return (wins + losses) * (2 * share - 1) / cases


def upper_share(right: int, cases: int, alpha: float) -> float:
    """What an accuracy is at most, with confidence 1 - alpha (Clopper and Pearson 1934)."""
    from scipy.special import betaincinv

    return float(betaincinv(right + 1, cases - right, 1 - alpha)) if right < cases else 1.0


def calibration_error(
    confidence: NDArray[np.float64], right: NDArray[np.bool_], alpha: float
) -> tuple[float, float, float]:
    """How far stated probabilities are from what comes true: root mean square over ten bins of equally many cases.

    Plain calibration errors grow with noise, so that few cases look badly calibrated; here each bin's squared gap loses its own variance
    (the debiased estimator of Kumar, Liang and Ma 2019, with the variance of the gap itself). The bounds take the squared gaps as normal.

    Args:
        confidence: (n,) of the answer given.
        right: (n,) whether it was right.
        alpha: the chance that the truth is beyond each bound.

    Returns:
        (error, at least, at most), each in [0, 1].
    """
    import numpy as np
    from scipy.special import ndtri

    gaps = (right - confidence)[np.argsort(confidence, kind="stable")]
    square = variance = 0.0
    for part in np.array_split(gaps, _BINS):
        noise, weight = float(part.var(ddof=1)) / len(part), len(part) / len(gaps)
        bias_free = float(part.mean()) ** 2 - noise
        square += weight * bias_free
        variance += weight**2 * (4 * max(bias_free, 0.0) * noise + 2 * noise**2)
    reach = float(ndtri(1 - alpha)) * variance**0.5
    error, low, high = (
        min(1.0, max(0.0, each)) ** 0.5 for each in (square, square - reach, square + reach)
    )
    return error, low, high
