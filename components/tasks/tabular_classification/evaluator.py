"""Evaluate classification on tables: the query is a row, the answer a class."""

from __future__ import annotations

from components.tasks.classification.evaluator import ClassificationEvaluator
from components.tasks.tables.row_queries import RowQueries


class TableClassificationEvaluator(RowQueries, ClassificationEvaluator):
    """Facet evaluator.py."""


EVALUATOR = TableClassificationEvaluator()
