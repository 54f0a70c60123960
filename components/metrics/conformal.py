"""Compute intervals around numbers as answers that hold with a stated probability.

Split conformal prediction (Vovk et al. 2005; Lei et al. 2018, arXiv:1604.04173): the errors on
rows that the model has not learned from are as large as those on new rows of the same kind.
The rows are grouped by the answer (Mondrian conformal prediction), because large answers mostly
have large errors: then the probability holds within each group as well.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]
# Rows of a group. With fewer its quantiles would be those of a few rows.
_ROWS_OF_A_GROUP = 200
_MOST_GROUPS = 20


@dataclass(frozen=True)
class IntervalTable:
    """Margins around an answer, by groups of answers.

    Args:
        coverage: stated probability that the truth is within the interval, 0-1.
        edges: (k - 1,) answers at which the next group begins, ascending.
        below: (k,) how far the interval of a group reaches below the answer.
        above: (k,) how far it reaches above the answer.
        rows: number of rows that it was computed from.
    """

    coverage: float
    edges: Sequence[float]
    below: Sequence[float]
    above: Sequence[float]
    rows: int

    def intervals(self, answers: Values) -> tuple[Values, Values]:
        """Return the lower and the upper ends of the intervals.

        Args:
            answers: (n,) numbers.

        Returns:
            (n,) and (n,). They are infinite where too few rows were there for a bound.
        """
        groups = np.searchsorted(np.asarray(self.edges, dtype=float), answers, side="right")
        lower = answers - np.asarray(self.below, dtype=float)[groups]
        upper = answers + np.asarray(self.above, dtype=float)[groups]
        return lower, upper

    def as_dict(self) -> dict[str, Any]:
        """Return the table for JSON. Bounds that are infinite are None."""
        return {
            "coverage": self.coverage,
            "edges": list(self.edges),
            "below": [_finite(value) for value in self.below],
            "above": [_finite(value) for value in self.above],
            "rows": self.rows,
        }

    @staticmethod
    def from_dict(table: Mapping[str, Any]) -> IntervalTable:
        """Return the table of `as_dict`.

        Raises:
            ValueError: the groups do not fit together.
        """
        edges = [float(edge) for edge in table["edges"]]
        below = [math.inf if value is None else float(value) for value in table["below"]]
        above = [math.inf if value is None else float(value) for value in table["above"]]
        if not len(edges) + 1 == len(below) == len(above):
            raise ValueError("edges, below and above do not fit together")
        if edges != sorted(edges) or not all(map(math.isfinite, edges)):
            raise ValueError("edges must ascend")
        if any(math.isnan(value) for value in (*below, *above)):
            raise ValueError("a margin is no number")
        return IntervalTable(
            float(table["coverage"]),
            edges,
            below,
            above,
            int(table["rows"]),
        )


def fit_intervals(
    answers: Values, truths: Values, coverage: float = 0.9, groups: int = _MOST_GROUPS
) -> IntervalTable:
    """Return the margins that cover the truth with a stated probability.

    Half of the misses are below the interval and half above it.

    Args:
        answers: (n,) to rows that the model has not learned from.
        truths: (n,) of these rows.
        coverage: stated probability, 0-1.
        groups: most groups of answers. Each has at least 200 rows, or there is only one.
    """
    errors = truths - answers
    count = max(1, min(groups, len(answers) // _ROWS_OF_A_GROUP))
    edges = _edges(answers, count)
    numbers = np.searchsorted(edges, answers, side="right")
    tail = (1 - coverage) / 2
    below = []
    above = []
    for group in range(len(edges) + 1):
        part = errors[numbers == group]
        below.append(upper_quantile(-part, tail))
        above.append(upper_quantile(part, tail))
    return IntervalTable(coverage, edges.tolist(), below, above, len(answers))


def _edges(answers: Values, count: int) -> Values:
    """Return ascending answers that divide them into at most `count` groups of like size.

    Equal answers are in one group, so there are fewer groups where many are equal.
    """
    if count < 2:
        return np.empty(0)
    shares = np.arange(1, count) / count
    edges = np.unique(np.quantile(answers, shares, method="higher"))
    sizes = np.diff(np.searchsorted(np.sort(answers), edges, side="left"), prepend=0)
    return edges[sizes >= _ROWS_OF_A_GROUP // 2]


def upper_quantile(scores: Values, tail: float) -> float:
    """Return the value that a new score exceeds with a probability of at most `tail`.

    It is the ceil((n + 1) (1 - tail))-th smallest score, or infinity if there are too few.

    Args:
        scores: (n,) exchangeable with the new one.
        tail: probability, 0-1.
    """
    rank = math.ceil((len(scores) + 1) * (1 - tail) - 1e-9)
    if rank > len(scores):
        return math.inf
    return float(np.partition(scores, rank - 1)[rank - 1])


def coverage_of(lower: Values, upper: Values, truths: Values) -> float:
    """Return the share of truths within their intervals, ends included; NaN of no truths."""
    if not len(truths):
        return float("nan")
    return float(np.mean((lower <= truths) & (truths <= upper)))


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
