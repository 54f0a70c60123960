"""Intervals around answers that are numbers, as a table in the card of a model."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import numpy as np
from pydantic import Field, model_validator

from components.metrics.conformal import fit_intervals
from components.metrics.distributions import MOST_VALUES, CardPart, Rows
from components.tasks.shared.evaluator.regression.answer import NumberAnswer

# How far an interval reaches to one side; None: infinitely far.
_Margin = Annotated[float, Field(ge=0)] | None
_Margins = Annotated[list[_Margin], Field(min_length=1, max_length=MOST_VALUES)]


class Intervals(CardPart):
    """Margins around an answer, by groups of answers. See `conformal.IntervalTable`.

    Args:
        coverage: stated probability, 0-1.
        edges: (k - 1,) answers at which the next group begins, ascending.
        below: (k,) how far the interval of a group reaches below the answer.
        above: (k,) how far it reaches above the answer.
        rows: of validation, from which it was computed.
    """

    coverage: Annotated[float, Field(gt=0, lt=1)]
    edges: Annotated[list[float], Field(max_length=MOST_VALUES)]
    below: _Margins
    above: _Margins
    rows: Rows

    @model_validator(mode="after")
    def _is_table(self) -> Intervals:
        if not len(self.edges) + 1 == len(self.below) == len(self.above):
            raise ValueError("edges, below and above do not fit together")
        if self.edges != sorted(self.edges):
            raise ValueError("edges must ascend")
        return self

    def around(self, answer: NumberAnswer) -> NumberAnswer:
        """Return an answer with its interval; without one where an end would be infinite."""
        group = bisect_right(self.edges, answer.value)
        below = self.below[group]
        above = self.above[group]
        if below is None or above is None:
            return answer
        low = answer.value - below
        high = answer.value + above
        if not (math.isfinite(low) and math.isfinite(high)):
            return answer
        return NumberAnswer(value=answer.value, low=low, high=high, coverage=self.coverage)


def intervals_of(values: Sequence[float], truths: Sequence[float]) -> Mapping[str, Any]:
    """Return the table of intervals as JSON, by which nine of ten truths are covered.

    An interval always holds its answer: where all errors of a group have one sign, it reaches
    as far as the answer, which only covers more.

    Args:
        values: (n,) answers to rows that the model has not learned from.
        truths: (n,) of these rows.
    """
    table = fit_intervals(np.asarray(values, dtype=float), np.asarray(truths, dtype=float))
    entries = table.as_dict()
    for side in ("below", "above"):
        entries[side] = [None if margin is None else max(0.0, margin) for margin in entries[side]]
    return entries
