"""Weigh the answers of several models, by answers to rows from which they did not learn."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from components.tasks.shared.baselines.tables.linear import log_shares

Floats = NDArray[np.float64]
# Rows that would weigh as much as the pull towards equal weights.
_PRIOR_ROWS = 3.0
# A model with a smaller share of all weights is left out.
_LEAST_SHARE = 0.02


def mean_weights(answers: Floats, target: Floats) -> Floats:
    """Return weights that sum to 1, of the blend with the least squared error (Breiman 1996).

    Args:
        answers: (n, m) of m models.
        target: (n,).

    Returns:
        (m,) not negative.
    """
    from scipy.optimize import nnls

    count = answers.shape[1]
    error = answers - target[:, None]
    products = error.T @ error
    pull = _PRIOR_ROWS * np.diag(products).min(initial=np.inf) / max(len(target), 1)
    # The least of w P w with sum(w) = 1, as rows of a problem without a constraint.
    variances, axes = np.linalg.eigh(products)
    roots = np.sqrt(variances.clip(0))[:, None] * axes.T
    level = np.sqrt(np.diag(products).mean()) + 1e-12
    rows = np.vstack([roots, np.sqrt(pull) * np.eye(count), np.full((1, count), 1e3 * level)])
    goal = np.concatenate([np.zeros(count), np.full(count, np.sqrt(pull) / count), [1e3 * level]])
    weights, _ = nnls(rows, goal)
    return _without_small(weights, weights.sum())


def logit_weights(scores: Floats, target: NDArray[np.int64]) -> Floats:
    """Return weights of the sum of log-probabilities with the least cross-entropy.

    Their sum is free, so that the blend is as sure as it may be.

    Args:
        scores: (m, n, c) logits of m models.
        target: (n,) class indices.

    Returns:
        (m,) not negative.
    """
    from scipy.optimize import minimize

    count = len(scores)
    rows = np.arange(len(target))
    logs = np.stack([log_shares(part) for part in scores])
    equal = np.full(count, 1 / count)
    pull = _PRIOR_ROWS / max(len(target), 1)

    def loss(weights: Floats) -> tuple[float, Floats]:
        """Return the loss and its gradient."""
        blend = log_shares(np.tensordot(weights, logs, 1))
        shares = np.exp(blend)
        slope = [(shares * part).sum() - part[rows, target].sum() for part in logs]
        apart = weights - equal
        value = -blend[rows, target].mean() + pull * apart @ apart
        return value, np.array(slope) / len(target) + 2 * pull * apart

    done = minimize(
        loss,
        equal,
        jac=True,
        bounds=[(0, None)] * count,
        method="L-BFGS-B",
    )
    return _without_small(done.x, 0.0)


def _without_small(weights: Floats, total: float) -> Floats:
    """Return the weights with the smallest ones set to 0.

    Args:
        weights: (m,) not negative.
        total: what the weights are divided by, so that the rest sums to 1; 0: they stay.
    """
    if not weights.sum() > 0:
        return np.full(len(weights), 1 / len(weights))
    large = np.where(weights >= _LEAST_SHARE * weights.sum(), weights, 0.0)
    return large / large.sum() if total else large
