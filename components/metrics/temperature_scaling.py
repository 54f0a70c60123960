"""Scale probabilities by one temperature, fitted on validation (Guo et al. 2017).

The temperature T divides the logits (arXiv:1706.04599). From probabilities p that is p^(1/T),
divided by its sum. The order of the classes stays, and so does the accuracy. T above 1 makes
answers less sure.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from components.metrics.classification import log_losses

Floats = NDArray[np.float64]
# Temperatures that are tried.
_LEAST = 0.05
_MOST = 20.0


def fit_temperature(scores: Floats, truth: NDArray[np.int64]) -> float:
    """Return the temperature with the least log loss.

    Args:
        scores: (n, c) probabilities.
        truth: (n,) indices of the true classes.

    Returns:
        A number between 0.05 and 20.
    """
    from scipy.optimize import minimize_scalar

    rows = np.arange(len(truth))

    def loss(log_temperature: float) -> float:
        """Return the mean log loss at a temperature."""
        scaled = scale(scores, float(np.exp(log_temperature)))
        return float(log_losses(scaled[rows, truth]).mean())

    bounds = (np.log(_LEAST), np.log(_MOST))
    result = minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-6})
    return float(np.exp(result.x))


def scale(scores: Floats, temperature: float) -> Floats:
    """Return probabilities (n, c) at a temperature.

    Args:
        scores: (n, c) probabilities.
        temperature: 1 changes nothing.
    """
    logs = np.log(np.maximum(scores, 1e-300)) / temperature
    powers = np.exp(logs - logs.max(axis=1, keepdims=True))
    scaled: Floats = powers / powers.sum(axis=1, keepdims=True)
    return scaled
