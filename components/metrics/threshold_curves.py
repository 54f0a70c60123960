"""Compute curves over all thresholds of a score, and counts at some of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class ThresholdCurve:
    """Counts at each distinct score, from the highest on.

    Args:
        hits: (k,) positive cases with at least the score.
        alarms: (k,) negative cases with at least the score.
        positives: number of positive cases, at least one.
        negatives: number of negative cases, at least one.
    """

    hits: Floats
    alarms: Floats
    positives: int
    negatives: int

    @property
    def recall(self) -> Floats:
        """Return (k,) true positive rates."""
        return self.hits / self.positives

    @property
    def false_positive_rate(self) -> Floats:
        """Return (k,) shares of the negative cases."""
        return self.alarms / self.negatives

    @property
    def precision(self) -> Floats:
        """Return (k,) shares of positive cases among those with at least the score."""
        return self.hits / (self.hits + self.alarms)

    @property
    def average_precision(self) -> float:
        """Return the sum of precisions, weighted by the rise of the recall."""
        steps = np.diff(self.recall, prepend=0.0)
        return float((steps * self.precision).sum())

    @property
    def area(self) -> float:
        """Return the area under the ROC curve."""
        recall = np.concatenate(([0.0], self.recall))
        rate = np.concatenate(([0.0], self.false_positive_rate))
        heights = (recall[1:] + recall[:-1]) / 2
        return float((np.diff(rate) * heights).sum())


def threshold_curve(positive: Flags, score: Floats) -> ThresholdCurve | None:
    """Return the counts at each distinct score; None where all cases are of one kind.

    Args:
        positive: (n,) whether a case is positive.
        score: (n,) of the cases.
    """
    positives = int(positive.sum())
    negatives = len(positive) - positives
    if not positives or not negatives:
        return None
    order = np.argsort(-score, kind="stable")
    ranked = score[order]
    hits = np.cumsum(positive[order])
    # Cases with equal scores are on one side of any threshold.
    ends = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True))
    alarms = ends + 1 - hits[ends]
    return ThresholdCurve(hits[ends].astype(float), alarms.astype(float), positives, negatives)


@dataclass(frozen=True)
class ThresholdRow:
    """Outcome of calling the cases positive whose score is at least a threshold.

    Args:
        threshold: of the score.
        precision: None where no case is called positive.
        recall: None where no case is positive.
        f1: None where no case is positive or called so.
    """

    threshold: float
    precision: float | None
    recall: float | None
    f1: float | None


def threshold_rows(
    positive: Flags, score: Floats, thresholds: Sequence[float]
) -> list[ThresholdRow]:
    """Return the outcome at each threshold.

    Args:
        positive: (n,) whether a case is positive.
        score: (n,) of the cases.
        thresholds: (k,) of the score.
    """
    rows = []
    positives = int(positive.sum())
    for threshold in thresholds:
        called = score >= threshold
        hits = int((called & positive).sum())
        called_cases = int(called.sum())
        row = ThresholdRow(
            threshold=threshold,
            precision=_quotient(hits, called_cases),
            recall=_quotient(hits, positives),
            f1=_quotient(2 * hits, called_cases + positives),
        )
        rows.append(row)
    return rows


def _quotient(part: int, whole: int) -> float | None:
    return part / whole if whole else None
