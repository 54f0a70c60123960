"""Figures of classification from a confusion matrix (c, c), rows are truths; definitions as in scikit-learn, averages are macro."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def accuracy(confusion: Floats) -> float:
    """Share of rows on the diagonal."""
    return float(np.trace(confusion) / max(1.0, confusion.sum()))


def _per_class(confusion: Floats) -> tuple[Floats, Floats, NDArray[np.bool_]]:
    hits = np.diag(confusion)
    predicted, actual = confusion.sum(0), confusion.sum(1)
    seen = (predicted + actual) > 0  # a class that a subset lacks altogether says nothing about it
    precision = np.divide(
        hits, predicted, out=np.zeros_like(hits, dtype=float), where=predicted > 0
    )
    recall = np.divide(hits, actual, out=np.zeros_like(hits, dtype=float), where=actual > 0)
    return precision, recall, seen


def precision(confusion: Floats) -> float:
    """Mean over classes of hits / predicted."""
    value, _, seen = _per_class(confusion)
    return float(value[seen].mean()) if seen.any() else 0.0


def recall(confusion: Floats) -> float:
    """Mean over classes of hits / actual."""
    _, value, seen = _per_class(confusion)
    return float(value[seen].mean()) if seen.any() else 0.0


def macro_f1(confusion: Floats) -> float:
    """Mean over classes of the harmonic mean of precision and recall."""
    p, r, seen = _per_class(confusion)
    f1 = np.divide(2 * p * r, p + r, out=np.zeros_like(p), where=(p + r) > 0)
    return float(f1[seen].mean()) if seen.any() else 0.0


def auc(truth: NDArray[np.int64], scores: Floats) -> float:
    """Area under the ROC curve, one class against the rest, mean over the classes present (Mann-Whitney; ties count half).

    Args:
        truth: (n,) class indices.
        scores: (n, c) probabilities.

    Returns:
        NaN when only one class is present.
    """
    values = []
    for index in range(scores.shape[1]) if scores.shape[1] > 2 else (1,):
        positive = truth == index
        if 0 < positive.sum() < len(truth):
            values.append(_area(positive, scores[:, index]))
    return float(np.mean(values)) if values else float("nan")


def _area(positive: NDArray[np.bool_], score: Floats) -> float:
    _, where, counts = np.unique(score, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[where]  # average rank of ties, from 1
    hits = int(positive.sum())
    return float((ranks[positive].sum() - hits * (hits + 1) / 2) / (hits * (len(score) - hits)))
