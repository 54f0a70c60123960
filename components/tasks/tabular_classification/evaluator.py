"""Evaluate classification on tables: the query is a row, the answer a class."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from components.tasks.base import Case, ReportSection
from components.tasks.shared.evaluator.classification.evaluator import ClassificationEvaluator
from components.tasks.shared.evaluator.tables.model_sections import class_section
from components.tasks.shared.evaluator.tables.row_queries import RowQueries


class TableClassificationEvaluator(RowQueries, ClassificationEvaluator):
    """Facet evaluator.py."""

    def model_section(
        self,
        predict: Callable[[Sequence[Any]], Sequence[Any]],
        cases: Sequence[Case[Any]],
        seed: int,
    ) -> ReportSection | None:
        """Return the importance of the columns, and the probabilities by their values."""
        return class_section(predict, cases, seed)


EVALUATOR = TableClassificationEvaluator()
