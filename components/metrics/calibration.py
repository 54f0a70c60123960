"""Compute the calibration error of stated probabilities: with bounds, and as literature has it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_BINS = 10
# Bins of equal width, as Guo et al. 2017 (arXiv:1706.04599) have them.
WIDTH_BINS = 15


@dataclass(frozen=True)
class ReliabilityBin:
    """Answers whose stated probability lies in one bin.

    Args:
        cases: number of them, at least one.
        right: how many of them are correct.
        confidence: mean of the stated probabilities.
    """

    cases: int
    right: int
    confidence: float

    @property
    def accuracy(self) -> float:
        """Return the share of correct answers."""
        return self.right / self.cases


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


def reliability_bins(
    confidence: NDArray[np.float64], right: NDArray[np.bool_]
) -> list[ReliabilityBin]:
    """Return the bins of equal width that hold an answer, by rising probability.

    Args:
        confidence: (n,) probability that each answer states.
        right: (n,) whether each answer is correct.
    """
    bins = []
    for cases, correct, stated in zip(*_bin_sums(confidence, right), strict=True):
        if cases:
            bins.append(ReliabilityBin(int(cases), int(correct), float(stated / cases)))
    return bins


def expected_calibration_error(confidence: NDArray[np.float64], right: NDArray[np.bool_]) -> float:
    """Return the expected calibration error over 15 bins of equal width (Guo et al. 2017).

    It is the mean over cases of how far the accuracy of their bin is from the mean of the
    probabilities stated in it. It grows with noise: few cases look badly calibrated.

    Args:
        confidence: (n,) probability that each answer states.
        right: (n,) whether each answer is correct.

    Returns:
        A number from 0 to 1.
    """
    import numpy as np

    _, correct, stated = _bin_sums(confidence, right)
    return float(np.abs(correct - stated).sum() / len(confidence))


def _bin_sums(
    confidence: NDArray[np.float64], right: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """Return (bins,) cases, (bins,) correct answers and (bins,) sums of stated probabilities.

    The bins are ((k - 1) / 15, k / 15].
    """
    import numpy as np

    # An answer that states 0 is in the first bin.
    numbers = np.maximum(np.ceil(confidence * WIDTH_BINS).astype(int) - 1, 0)
    numbers = np.minimum(numbers, WIDTH_BINS - 1)
    cases = np.bincount(numbers, minlength=WIDTH_BINS).astype(np.int64)
    correct = np.bincount(numbers, weights=right, minlength=WIDTH_BINS).astype(np.float64)
    stated = np.bincount(numbers, weights=confidence, minlength=WIDTH_BINS).astype(np.float64)
    return cases, correct, stated
