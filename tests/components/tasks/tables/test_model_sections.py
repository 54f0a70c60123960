"""What the report shows of models of tables: numbers and classes."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from components.core.svg import Plot
from components.tasks.base import Case, InspectsModel, evaluator
from components.tasks.shared.evaluator.tables.query import Query

RNG = np.random.default_rng(0)
SIZES = RNG.normal(70, 20, 300).tolist()
CITIES = RNG.choice(["Bonn", "Oslo"], 300).tolist()
NUMBERS: Any = evaluator("tabular_regression")
CLASSES: Any = evaluator("tabular_classification")


def cases(truths: Sequence[Any]) -> list[Case[Any]]:
    rows = zip(SIZES, CITIES, truths, strict=True)
    return [
        Case(str(number), Query({"size": size, "city": city}), truth, {})
        for number, (size, city, truth) in enumerate(rows)
    ]


def prices(queries: Sequence[Any]) -> list[Any]:
    return [SimpleNamespace(value=3.0 * query.root["size"]) for query in queries]


def chances(names: Sequence[str]) -> Any:
    """Return a model whose last class is the more probable, the larger the size."""

    def predict(queries: Sequence[Any]) -> list[Any]:
        answers = []
        for query in queries:
            share = float(np.clip(query.root["size"] / 140, 0, 1))
            rest = (1 - share) / (len(names) - 1)
            probabilities = {**dict.fromkeys(names, rest), names[-1]: share}
            answers.append(SimpleNamespace(probabilities=probabilities))
        return answers

    return predict


def test_both_tasks_inspect_their_models() -> None:
    assert isinstance(NUMBERS, InspectsModel) and isinstance(CLASSES, InspectsModel)


def test_numbers_have_importance_and_curves() -> None:
    section = NUMBERS.model_section(prices, cases([3.0 * size for size in SIZES]), 7)
    assert [panel.title for panel in section.panels] == [
        "Importance of the columns",
        "Answer by size",
    ]
    assert "the RMSE grows" in section.panels[0].note


def test_of_two_classes_the_rarer_one_is_drawn() -> None:
    truths = ["yes" if size > 90 else "no" for size in SIZES]
    section = CLASSES.model_section(chances(["no", "yes"]), cases(truths), 7)
    titles = [panel.title for panel in section.panels]
    assert titles == ["Importance of the columns", "Probability of yes by size"]
    assert section.panels[1].content.legend == []
    assert "the log loss grows" in section.panels[0].note


def test_of_many_classes_the_most_frequent_are_drawn() -> None:
    names = ["a", "b", "c", "d", "<e>"]
    truths = [names[min(4, int(size // 25))] for size in SIZES]
    section = CLASSES.model_section(chances(names), cases(truths), 7)
    for panel in section.panels[1:]:
        assert isinstance(panel.content, Plot) and len(panel.content.legend) == 4


@pytest.mark.parametrize("task", [NUMBERS, CLASSES])
def test_rows_without_differences_have_no_section(task: Any) -> None:
    same = [Case("0", Query({"size": 1.0}), 1.0, {})] * 3
    zero = SimpleNamespace(value=0.0, probabilities={1.0: 1.0})
    assert task.model_section(lambda queries: [zero] * len(queries), same, 7) is None
