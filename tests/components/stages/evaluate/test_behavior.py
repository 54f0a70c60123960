"""Behavior tests: each kind passes and fails, and mistakes are found before anything runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from components.core.errors import ParamsError
from components.core.params import read_yaml
from components.fields.base import Reject
from components.orchestration.pipeline_params import load
from components.stages.evaluate.behavior import BehaviorResult, check_tests, run_tests
from components.stages.evaluate.params import BehaviorTest
from components.tasks import base
from components.tasks.shared.evaluator.classification.evaluator import Answer
from components.tasks.shared.evaluator.regression.answer import NumberAnswer
from tests.components.stages.evaluate.test_report import render, reviews
from tests.structure.import_graph import ROOT

TEXTS = base.evaluator("text_classification")
NUMBERS = base.evaluator("tabular_regression")
CLASSES = {"classes": ["bad", "good"]}
HOSTILE = "<script>alert(1)</script>"


def by_words(queries: Sequence[Any]) -> list[Answer]:
    """Answers of a model that reads single words and not their order."""
    answers = []
    for query in queries:
        if not query.text.strip("?"):
            raise Reject("empty")
        good = 0.5 + 0.3 * ("fine" in query.text) - 0.3 * ("poor" in query.text)
        answers.append(
            Answer(
                label="good" if good >= 0.5 else "bad",
                probability=max(good, 1 - good),
                probabilities={"bad": 1 - good, "good": good},
            )
        )
    return answers


def result(kind: str, *cases: dict[str, Any], **more: Any) -> BehaviorResult:
    """The result of one test of the model that reads words."""
    test = BehaviorTest.model_validate({"name": "n", "kind": kind, "cases": list(cases), **more})
    assert not check_tests([test], TEXTS)
    (one,) = run_tests([test], TEXTS, by_words, CLASSES)
    return one


def text(value: str) -> dict[str, str]:
    """A query."""
    return {"text": value}


def test_minimum_wants_the_truth() -> None:
    one = result(
        "minimum",
        {"query": text("fine"), "truth": {"label": "good"}},
        {"query": text("not fine"), "truth": {"label": "bad"}},
    )
    assert (one.cases, len(one.failed)) == (2, 1)
    assert (one.failed[0].query, one.failed[0].detail) == ("not fine", "good, not bad")


def test_invariance_wants_the_same_answer() -> None:
    one = result(
        "invariance",
        {"query": text("fine"), "changed": text("fine, on Tuesday")},
        {"query": text("fine"), "changed": text("a poor boy is fine")},
        {"query": text("poor"), "changed": text("plain")},
    )
    assert [case.detail for case in one.failed] == ["bad became good"]
    assert one.failed[0].changed == "plain"


def test_invariance_within_a_tolerance_compares_the_outputs() -> None:
    case = {"query": text("fine"), "changed": text("plain")}
    assert not result("invariance", case).failed
    assert not result("invariance", case, tolerance=0.31).failed
    assert len(result("invariance", case, tolerance=0.29).failed) == 1


def test_direction_wants_a_move_towards_the_truth() -> None:
    one = result(
        "direction",
        {"query": text("it is"), "changed": text("it is poor"), "truth": {"label": "bad"}},
        {"query": text("fine"), "changed": text("not fine"), "truth": {"label": "bad"}},
    )
    assert [case.detail for case in one.failed] == ["closeness to bad: 0.2 became 0.2"]


def test_a_truth_or_query_that_does_not_fit_the_data_fails_and_stops_nothing() -> None:
    one = result(
        "minimum",
        {"query": text("fine"), "truth": {"label": "other"}},
        {"query": text("?"), "truth": {"label": "good"}},
        {"query": text("fine"), "truth": {"label": "good"}},
    )
    assert [case.detail for case in one.failed] == [
        "label is not one of the model's classes",
        "is of no use: empty",
    ]


def test_numbers_are_tested_with_a_tolerance() -> None:
    def predict(queries: Sequence[Any]) -> list[NumberAnswer]:
        return [NumberAnswer(value=10.0) for _ in queries]

    cases = [{"query": {"size": 1.0}, "truth": {"value": 12.0}}]
    for tolerance, failed in ((3.0, 0), (1.0, 1)):
        test = BehaviorTest.model_validate(
            {"name": "n", "kind": "minimum", "cases": cases, "tolerance": tolerance}
        )
        (one,) = run_tests([test], NUMBERS, predict, {"range": [0.0, 100.0]})
        assert len(one.failed) == failed


@pytest.mark.parametrize(
    ("kind", "case"),
    [
        ("minimum", {"query": {}}),
        ("minimum", {"query": {}, "truth": {}, "changed": {}}),
        ("invariance", {"query": {}, "truth": {}}),
        ("direction", {"query": {}, "changed": {}}),
    ],
)
def test_cases_have_the_fields_of_their_kind(kind: str, case: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=rf"cases\[0\] of {kind} must have query, "):
        BehaviorTest.model_validate({"name": "n", "kind": kind, "cases": [case]})


def test_mistakes_name_their_place_before_a_run(tmp_path: Path) -> None:
    shipped = (ROOT / "params.yaml").read_text(encoding="utf-8")
    wrong = shipped.replace("query: {text: 质量很好，非常满意}", "query: {words: 质量很好}")
    wrong = wrong.replace("truth: {label: 差评}", "truth: {lable: 差评}", 1)
    assert wrong != shipped
    path = tmp_path / "params.yaml"
    path.write_text(wrong, encoding="utf-8")
    with pytest.raises(ParamsError) as raised:
        load(path)
    message = str(raised.value)
    assert "evaluate.behavior[0].cases[0].query: text: Field required" in message
    assert "evaluate.behavior[0].cases[1].truth: label: Field required" in message


def test_the_shipped_tests_are_in_both_languages() -> None:
    tests = read_yaml(ROOT / "params.yaml")["evaluate"]["behavior"]
    assert {test["kind"] for test in tests} == {"minimum", "invariance", "direction"}
    for test in tests:
        texts = [case["query"]["text"] for case in test["cases"]]
        assert any(one.isascii() for one in texts) and not all(one.isascii() for one in texts)


def test_the_report_shows_what_failed_as_text(tmp_path: Path) -> None:
    case = {"query": text(f"fine {HOSTILE}"), "truth": {"label": "bad"}}
    test = BehaviorTest.model_validate({"name": HOSTILE, "kind": "minimum", "cases": [case]})
    changes = [{"query": text("fine"), "changed": text(f"poor {HOSTILE}")}]
    change = BehaviorTest.model_validate({"name": "n", "kind": "invariance", "cases": changes})
    results = run_tests([test, change], TEXTS, by_words, CLASSES)
    page = render(tmp_path, replace(reviews(), behavior=results))
    assert 'id="behavior"' in page and "行为测试" in page
    assert "<p>good, not bad</p>" in page
    assert "<p>good became bad</p>" in page
    # The name twice, the query, and the changed query.
    assert "<script" not in page and page.count("&lt;script&gt;") == 4
