"""Show in the report what a model does with a table: of numbers, and of classes, as answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from components.metrics.regression import rmse
from components.tasks.base import Case, ReportSection
from components.tasks.shared.evaluator.tables.column_importance import (
    Columns,
    Values,
    answers_by_columns,
)
from components.tasks.shared.evaluator.tables.importance_panels import inspection_section
from components.tasks.shared.evaluator.tables.query import Query, columns_of

# Queries -> answers.
Answers = Callable[[Sequence[Any]], Sequence[Any]]

_MOST_CLASSES = 4
# A probability of 0 would be an infinite loss.
_LEAST = 1e-12


def number_section(predict: Answers, cases: Sequence[Case[Any]], seed: int) -> ReportSection | None:
    """Return the section of a model that answers numbers; None where no column varies.

    Args:
        predict: queries -> answers of the model.
        cases: of test.
        seed: of every random choice.
    """
    return inspection_section(
        answers_by_columns(predict, Query.model_validate),
        _columns(cases),
        [case.truth for case in cases],
        _rmse,
        _values,
        seed,
        error_name="RMSE",
        output_name="answer",
    )


def class_section(predict: Answers, cases: Sequence[Case[Any]], seed: int) -> ReportSection | None:
    """Return the section of a model that answers classes; None where no column varies.

    Of two classes the probability of the rarer one is drawn, of more that of the most frequent.

    Args:
        predict: queries -> answers of the model.
        cases: of test.
        seed: of every random choice.
    """
    truths = [case.truth for case in cases]
    frequent = [name for name, _ in Counter(truths).most_common()]
    if len(frequent) == 2:
        shown = frequent[1:]
        output_name = f"probability of {frequent[1]}"
    else:
        shown = frequent[:_MOST_CLASSES]
        output_name = "probability"

    def probabilities(answers: Sequence[Any]) -> Mapping[str, Values]:
        """Return the probabilities of the classes that are shown."""
        outputs = {}
        for name in shown:
            outputs[name] = np.array([answer.probabilities[name] for answer in answers])
        return outputs

    return inspection_section(
        answers_by_columns(predict, Query.model_validate),
        _columns(cases),
        truths,
        _log_loss,
        probabilities,
        seed,
        error_name="log loss",
        output_name=output_name,
    )


def _columns(cases: Sequence[Case[Any]]) -> Columns:
    return columns_of([case.query for case in cases])


def _values(answers: Sequence[Any]) -> Mapping[str, Values]:
    return {"answer": np.array([answer.value for answer in answers], dtype=np.float64)}


def _rmse(answers: Sequence[Any], truths: Sequence[float]) -> float:
    return rmse(_values(answers)["answer"] - np.array(truths, dtype=np.float64))


def _log_loss(answers: Sequence[Any], truths: Sequence[str]) -> float:
    """Return the mean negative logarithm of the probability of the true class."""
    pairs = zip(answers, truths, strict=True)
    shares = [max(_LEAST, answer.probabilities[truth]) for answer, truth in pairs]
    return float(-np.mean(np.log(shares)))
