"""Compute metrics of classification from a confusion matrix (c, c), rows are truths.

Definitions are those of scikit-learn, and averages are macro.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def accuracy(confusion: Floats) -> float:
    """Return the share of cases on the diagonal."""
    return float(np.trace(confusion) / max(1.0, confusion.sum()))


def _per_class(confusion: Floats) -> tuple[Floats, Floats, NDArray[np.bool_]]:
    """Return (c,) precision, recall and whether the class occurs at all."""
    hits = np.diag(confusion)
    predicted = confusion.sum(0)
    actual = confusion.sum(1)
    # A class that the subset lacks entirely is not averaged.
    occurs = (predicted + actual) > 0
    precision = np.divide(
        hits, predicted, out=np.zeros_like(hits, dtype=float), where=predicted > 0
    )
    recall = np.divide(
        hits,
        actual,
        out=np.zeros_like(hits, dtype=float),
        where=actual > 0,
    )
    return precision, recall, occurs


def _mean(values: Floats, occurs: NDArray[np.bool_]) -> float:
    """Return the mean over the classes that occur, 0 if there are none."""
    return float(values[occurs].mean()) if occurs.any() else 0.0


def precision(confusion: Floats) -> float:
    """Return the mean over classes of hits / predicted."""
    values, _, occurs = _per_class(confusion)
    return _mean(values, occurs)


def recall(confusion: Floats) -> float:
    """Return the mean over classes of hits / actual."""
    _, values, occurs = _per_class(confusion)
    return _mean(values, occurs)


def macro_f1(confusion: Floats) -> float:
    """Return the mean over classes of the harmonic mean of precision and recall."""
    p, r, occurs = _per_class(confusion)
    f1 = np.divide(
        2 * p * r,
        p + r,
        out=np.zeros_like(p),
        where=(p + r) > 0,
    )
    return _mean(f1, occurs)


def matthews(confusion: Floats) -> float:
    """Return the Matthews correlation coefficient (Gorodkin 2004 for more than two classes).

    It is 1 for answers that are all right and 0 for answers that do not depend on the truth. It
    is 0 too where all truths or all answers are of one class.
    """
    cases = confusion.sum()
    actual = confusion.sum(1)
    predicted = confusion.sum(0)
    covariance = np.trace(confusion) * cases - actual @ predicted
    spread = (cases**2 - actual @ actual) * (cases**2 - predicted @ predicted)
    return float(covariance / np.sqrt(spread)) if spread > 0 else 0.0


def log_losses(probability: Floats) -> Floats:
    """Return the log loss (natural logarithm) of cases by the probability of their true class.

    A probability below 2.2e-16 counts as that, so that no case has an infinite loss.

    Args:
        probability: (n,) of the true classes.

    Returns:
        (n,) losses.
    """
    least = np.finfo(np.float64).eps
    losses: Floats = -np.log(np.clip(probability, least, 1.0))
    return losses


def auc(truth: NDArray[np.int64], scores: Floats) -> float:
    """Return the area under the ROC curve: one class against the rest, mean over classes.

    It is the Mann-Whitney statistic, in which ties count half. Classes that do not occur are
    not averaged.

    Args:
        truth: (n,) class indices.
        scores: (n, c) probabilities.

    Returns:
        NaN when only one class is present.
    """
    values = []
    classes = range(scores.shape[1]) if scores.shape[1] > 2 else (1,)
    for index in classes:
        positive = truth == index
        if 0 < positive.sum() < len(truth):
            values.append(_area(positive, scores[:, index]))
    return float(np.mean(values)) if values else float("nan")


def _area(positive: NDArray[np.bool_], score: Floats) -> float:
    """Return the area under the ROC curve of scores (n,) for positive cases (n,)."""
    _, inverse, counts = np.unique(score, return_inverse=True, return_counts=True)
    # Average ranks of ties, from 1.
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    positives = int(positive.sum())
    negatives = len(score) - positives
    rank_sum = ranks[positive].sum() - positives * (positives + 1) / 2
    return float(rank_sum / (positives * negatives))
