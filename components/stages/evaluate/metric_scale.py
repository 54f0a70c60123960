"""Values of a metric as the report shows them: which is better, in which unit, on which scale."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from components.core.page_templates import is_finite, percent, points, significant
from components.tasks.base import Metric

# Shares farther below the best are cut off, so that they do not compress the others.
_NEAR_SHARES = 0.2


@dataclass(frozen=True)
class MetricScale:
    """The scale of a metric.

    Args:
        metric: of the task.
    """

    metric: Metric

    @property
    def sign(self) -> int:
        """Return 1 where a large value is good, else -1."""
        if self.metric.goal == "max":
            return 1
        return -1

    def of(self, row: Mapping[str, Any], split: str = "test") -> Any:
        """Return the value of a row of the leaderboard; None if there is none."""
        return (row.get(split) or {}).get(self.metric.name)

    def rank(self, value: Any) -> float:
        """Return a number by which values are sorted, the best first and missing ones last."""
        if is_finite(value):
            return -self.sign * float(value)
        return math.inf

    def loss(self, row: Mapping[str, Any], best: Mapping[str, Any], split: str) -> float:
        """Return how much worse a row is than the best one, as a share of the best's value."""
        value, top = self.of(row, split), self.of(best, split)
        if not is_finite(value) or not is_finite(top):
            return 0.0 if row is best else math.inf
        return self.sign * (float(top) - float(value)) / (abs(float(top)) or 1.0)

    def write(self, value: Any, unit: bool = True) -> str:
        """Return a value for people: a share in percent, another number as it is."""
        if self.metric.is_share:
            return percent(value, unit)
        return significant(value)

    def write_change(self, change: Any) -> str:
        """Return a difference of two values for people, with its sign."""
        if self.metric.is_share:
            return points(change)
        text = significant(change)
        if is_finite(change) and change >= 0:
            return f"+{text}"
        return text

    def write_size(self, change: Any) -> str:
        """Return the size of a difference of two values for people."""
        return self.write_change(abs(change)).removeprefix("+")

    def near(self, best: float) -> float:
        """Return how far from the best a value may be to be drawn beside it."""
        if self.metric.is_share:
            return _NEAR_SHARES
        return abs(best) or 1.0

    def whole(self, values: Sequence[Any]) -> float:
        """Return the value at which a bar is full: 1 for shares, else the largest of some values.

        Args:
            values: that bars show; those that are missing do not count.
        """
        if self.metric.is_share:
            return 1.0
        return max((float(value) for value in values if is_finite(value)), default=0.0) or 1.0
