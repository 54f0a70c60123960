"""The section about explanations: what it shows, and a test that meaningless ones fail."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from components.inference.explanations.methods import Explanation, Explanations
from components.stages.evaluate import explanations
from components.stages.evaluate.params import EvaluateParams
from components.tasks import base
from components.tasks.shared.evaluator.classification.evaluator import Answer

TEXTS: Any = base.evaluator("text_classification")
PARAMS = EvaluateParams.model_validate({"resamples": 200})
TEXT = "alpha beta good delta zeta"


def by_one_word(queries: Sequence[Any]) -> list[Answer]:
    """Answers of a model that reads one word only."""
    answers = []
    for query in queries:
        good = 0.9 if "good" in query.text else 0.2
        label = "good" if good > 0.5 else "bad"
        answers.append(
            Answer(
                label=label,
                probability=max(good, 1 - good),
                probabilities={"bad": 1 - good, "good": good},
            )
        )
    return answers


def outcome(weights: Sequence[float]) -> explanations.DeletionTest:
    """The deletion test of eight equal answers with equal explanations."""
    queries = [TEXTS.Query(text=TEXT)] * 8
    parts = TEXTS.report_parts(queries[0], 40)
    test = explanations.deletion_test(
        TEXTS,
        by_one_word,
        queries,
        by_one_word(queries),
        [Explanation(parts, weights)] * 8,
        PARAMS,
        np.random.default_rng(0),
    )
    assert test is not None
    return test


def test_explanations_that_name_the_word_pass_and_others_do_not() -> None:
    right = outcome([0, 0, 3, 0, 0])
    assert right.passed and right.top > right.random
    wrong = outcome([3, 0, 0, 0, 0])
    assert not wrong.passed and wrong.top == 0.0
    assert outcome([0, 0, -3, 1, 0]).passed is False


def test_a_query_of_one_part_cannot_be_tested() -> None:
    query = TEXTS.Query(text="good")
    answers = by_one_word([query])
    one = [Explanation(["good"], [1.0])]
    rng = np.random.default_rng(0)
    assert (
        explanations.deletion_test(TEXTS, by_one_word, [query], answers, one, PARAMS, rng) is None
    )


def section(monkeypatch: pytest.MonkeyPatch, told: dict[str, Any], result: Any) -> Any:
    """The section of a small test split, with explanations that are given."""
    texts = ["all is good here", "bad day", "so good <b>x</b>", "nothing"] * 3
    cases = [base.Case(str(i), TEXTS.Query(text=text), "good", {}) for i, text in enumerate(texts)]
    answers = by_one_word([case.query for case in cases])
    monkeypatch.setattr(explanations, "explain_queries", result)
    params = EvaluateParams.model_validate({"resamples": 100, "explain": told})
    test = base.AnsweredSplit(answers, cases)
    return explanations.explanation_section(params, TEXTS, Path(), by_one_word, test, 0)


def explained(errors: Sequence[float]) -> Any:
    """A function in place of `explain_queries`: the word "good" decides."""

    def explain(folder: Path, predict: Any, queries: Sequence[Any], method: str) -> Explanations:
        found = []
        for query in queries:
            parts = TEXTS.report_parts(query, 40)
            found.append(Explanation(parts, [float("good" in part) for part in parts]))
        if errors:
            return Explanations("integrated_gradients", found, errors, 432)
        return Explanations("occlusion", found)

    return explain


def test_the_section_shows_cases_importance_and_both_checks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = section(monkeypatch, {"cases": 8}, explained([0.001] * 10 + [0.05]))
    titles = [panel.title for panel in made.panels]
    assert titles[:2] == ["Its worst answers", "Other answers"] and len(titles) == 4
    html = "".join(str(panel.content) for panel in made.panels)
    assert "<b>x</b>" not in html and "&lt;" in html
    assert "Deletion test" in html
    assert "10 of 11 answers are within" in html and "The others are not reached." in html
    assert made.panels[2].content.index(">good<") < made.panels[2].content.index(">all<")


def test_a_method_that_the_winner_has_not_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    made = section(monkeypatch, {"cases": 8, "method": "exact"}, explained([]))
    assert made.note.endswith("The winner has no exact contributions.")
    assert "Completeness" not in str(made.panels[-1].content)


def test_explanations_can_be_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    assert section(monkeypatch, {"method": "none"}, None) is None
