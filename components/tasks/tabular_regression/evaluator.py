"""Evaluate regression on tables: the query is a row, the answer a number."""

from __future__ import annotations

from typing import Any

from components.tasks.regression.evaluator import RegressionEvaluator
from components.tasks.tables.row_queries import RowQueries


class TableRegressionEvaluator(RowQueries, RegressionEvaluator):
    """Facet evaluator.py."""

    def support(self, answer: Any, claim: Any) -> float:  # noqa: ARG002
        """Return the number of an answer: a value speaks for as much as it adds to it."""
        return float(answer.value)


EVALUATOR = TableRegressionEvaluator()
