"""Compute the calibration error of stated probabilities, with bounds."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_BINS = 10


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
