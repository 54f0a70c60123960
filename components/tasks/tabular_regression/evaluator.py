"""Evaluate regression on tables: the query is a row, the answer a number."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from components.tasks.base import Case, ReportSection
from components.tasks.shared.evaluator.regression.evaluator import RegressionEvaluator
from components.tasks.shared.evaluator.tables.model_sections import number_section
from components.tasks.shared.evaluator.tables.row_queries import RowQueries


class TableRegressionEvaluator(RowQueries, RegressionEvaluator):
    """Facet evaluator.py."""

    def support(self, answer: Any, claim: Any) -> float:  # noqa: ARG002
        """Return the number of an answer: a value speaks for as much as it adds to it."""
        return float(answer.value)

    def model_section(
        self,
        predict: Callable[[Sequence[Any]], Sequence[Any]],
        cases: Sequence[Case[Any]],
        seed: int,
    ) -> ReportSection | None:
        """Return the importance of the columns, and the answers by their values."""
        return number_section(predict, cases, seed)


EVALUATOR = TableRegressionEvaluator()
