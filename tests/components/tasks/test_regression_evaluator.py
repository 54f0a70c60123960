"""Answers that are numbers: metrics as scikit-learn has them, intervals, distances, cases."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pydantic import BaseModel, ValidationError
from sklearn import metrics as sk

from components.tasks import base
from components.tasks.base import Case
from components.tasks.shared.evaluator.regression.answer import NumberAnswer
from components.tasks.shared.evaluator.regression.evaluator import RegressionEvaluator
from components.tasks.shared.evaluator.regression.intervals import Intervals
from components.training import evaluation

TARGETS = {"center": [100.0], "scale": [20.0], "range": [0.0, 300.0]}


class Size(BaseModel):
    """The size of a flat."""

    size: float


class Flats(RegressionEvaluator):
    """Prices of flats by size."""

    Query: type[BaseModel] = Size

    def query(self, row: Mapping[str, Any]) -> BaseModel:
        return Size(size=row["size"])

    def slices_of(
        self, rows: Sequence[Mapping[str, Any]], inputs: Mapping[str, Any]
    ) -> Sequence[Mapping[str, str]]:
        return [{"size": "large" if row["size"] > 50 else "small"} for row in rows]


EVALUATOR = Flats()


def interval(value: float, reach: float, coverage: float = 0.9) -> NumberAnswer:
    return NumberAnswer(value=value, low=value - reach, high=value + reach, coverage=coverage)


def measured(answers: list[NumberAnswer], truths: list[float]) -> dict[str, float | None]:
    cases: list[Any] = [Case(str(i), None, truth, {}) for i, truth in enumerate(truths)]
    stats = {
        metric.name: evaluation.per_example_stats(metric, answers, cases)
        for metric in EVALUATOR.metrics
    }
    return evaluation.compute_metrics(EVALUATOR.metrics, stats)


def test_the_evaluator_states_intervals_and_never_abstains() -> None:
    assert isinstance(EVALUATOR, base.StatesIntervals)
    assert not isinstance(EVALUATOR, base.Abstains)
    assert EVALUATOR.confidence(NumberAnswer(value=1.0)) is None
    assert EVALUATOR.metrics[0] is EVALUATOR.report_metric
    assert EVALUATOR.support(NumberAnswer(value=3.5), NumberAnswer(value=1.0)) == 3.5


def test_metrics_are_scikit_learns() -> None:
    rng = np.random.default_rng(0)
    truths = rng.normal(100, 20, 400)
    values = truths + rng.normal(0, 5, 400)
    reach = 8.0
    answers = [interval(value, reach) for value in values.tolist()]
    result = measured(answers, truths.tolist())
    ends = [
        sk.mean_pinball_loss(truths, values - reach, alpha=0.05),
        sk.mean_pinball_loss(truths, values + reach, alpha=0.95),
    ]
    assert result == pytest.approx(
        {
            "rmse": math.sqrt(sk.mean_squared_error(truths, values)),
            "mae": sk.mean_absolute_error(truths, values),
            "r2": sk.r2_score(truths, values),
            "pinball": np.mean(ends),
            "coverage": np.mean(np.abs(values - truths) <= reach),
        }
    )


def test_metrics_of_intervals_are_left_out_where_there_are_none() -> None:
    result = measured([NumberAnswer(value=1.0), NumberAnswer(value=2.0)], [1.0, 3.0])
    assert result["pinball"] is None and result["coverage"] is None
    assert result["mae"] == 0.5
    some = measured([NumberAnswer(value=1.0), interval(2.0, 1.5)], [1.0, 3.0])
    assert some["coverage"] == 1.0


def test_answers_are_in_the_unit_of_the_data() -> None:
    def scorer(graph: str, batch: Any) -> dict[str, Any]:
        return {"logits": np.array([[0.0], [-1.5]], dtype=np.float32)}

    answers = EVALUATOR.answers(scorer, {}, TARGETS)
    assert answers == [NumberAnswer(value=100.0), NumberAnswer(value=70.0)]


@pytest.mark.parametrize(
    ("logits", "what"),
    [
        ([[0.5], [1.0]], ""),
        ([0.5], "shape"),
        ([[0.5, 1.0]], "shape"),
        ([[float("nan")]], "NaN"),
        ([[float("inf")]], "infinity"),
    ],
)
def test_outputs_that_are_no_numbers_are_refused(logits: Any, what: str) -> None:
    message = EVALUATOR.check_outputs({"logits": np.array(logits)}, TARGETS)
    assert what in message and bool(message) == bool(what)


def test_a_scale_that_makes_answers_infinite_is_refused() -> None:
    huge = {**TARGETS, "scale": [1e300]}
    outputs = {"logits": np.array([[1e30]], dtype=np.float32)}
    assert "infinity" in EVALUATOR.check_outputs(outputs, huge)


def test_intervals_go_through_json_and_cover_new_rows() -> None:
    rng = np.random.default_rng(1)
    truths = rng.lognormal(3, 1, 6000)
    answers = [
        NumberAnswer(value=value) for value in (truths * rng.lognormal(0, 0.2, 6000)).tolist()
    ]
    table = EVALUATOR.fit_intervals(answers[:3000], truths[:3000].tolist())
    assert table["rows"] == 3000 and len(table["below"]) == 15
    intervals = Intervals.model_validate(json.loads(json.dumps(table)))
    stated: Any = [EVALUATOR.with_interval(answer, intervals) for answer in answers[3000:]]
    covered = EVALUATOR.case_stats(stated, truths[3000:].tolist())["covered"]
    assert np.mean(covered) == pytest.approx(0.9, abs=0.02)
    assert all(answer.low <= answer.value <= answer.high for answer in stated)
    assert [answer.value for answer in stated] == [answer.value for answer in answers[3000:]]


def test_an_interval_holds_its_answer_where_all_errors_have_one_sign() -> None:
    answers = [NumberAnswer(value=float(number)) for number in range(100)]
    table = EVALUATOR.fit_intervals(answers, [answer.value + 5 for answer in answers])
    assert table["below"] == [0.0] and table["above"] == [5.0]


def test_few_rows_give_no_interval() -> None:
    answers = [NumberAnswer(value=float(number)) for number in range(10)]
    table = EVALUATOR.fit_intervals(answers, [answer.value for answer in answers])
    assert table["below"] == [None]
    intervals = Intervals.model_validate(table)
    assert EVALUATOR.with_interval(answers[0], intervals) == answers[0]


@pytest.mark.parametrize(
    "change",
    [
        {"below": [1.0]},
        {"below": [-1.0, 1.0]},
        {"above": [float("nan"), 1.0]},
        {"above": [float("inf"), 1.0]},
        {"above": ["1", 1.0]},
        {"edges": [2.0, 1.0], "below": [1.0] * 3, "above": [1.0] * 3},
        {"edges": [float("nan")]},
        {"coverage": 1.0},
        {"coverage": None},
        {"rows": 0},
        {"edges": [0.0] * 3000, "below": [1.0] * 3001, "above": [1.0] * 3001},
    ],
)
def test_a_hostile_table_is_refused(change: dict[str, Any]) -> None:
    good = {"coverage": 0.9, "edges": [1], "below": [1.0, 2.0], "above": [1.0, None], "rows": 9}
    Intervals.model_validate(good)
    with pytest.raises(ValidationError):
        Intervals.model_validate(good | change)


def test_an_interval_that_would_be_infinite_is_not_stated() -> None:
    table = {"coverage": 0.9, "edges": [], "below": [1e308], "above": [1e308], "rows": 9}
    answer = NumberAnswer(value=1e308)
    assert Intervals.model_validate(table).around(answer) == answer


def test_statistics_of_cases_are_json() -> None:
    stats = EVALUATOR.case_stats(
        [interval(5.0, 1.0), NumberAnswer(value=2.0)], [4.5, np.float64(2.5)]
    )
    assert json.loads(json.dumps(stats)) == {
        "error": [0.5, -0.5],
        "target": [4.5, 2.5],
        "covered": [True, None],
        "coverage": [0.9, None],
    }


def test_the_distance_is_a_share_of_the_range_of_the_targets() -> None:
    one = interval(100.0, 3.0)

    def distance(other: NumberAnswer) -> float:
        return EVALUATOR.output_distance(one, other, TARGETS)

    assert distance(one) == 0
    assert distance(interval(115.0, 3.0)) == pytest.approx(0.05)
    # At the edge of a group, rounding decides the interval.
    assert distance(interval(100.0, 30.0)) == 0
    assert distance(NumberAnswer(value=100.0)) == 1
    assert math.isnan(distance(interval(float("nan"), 3.0)))
    assert math.isnan(distance(NumberAnswer(value=float("nan"))))


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (NumberAnswer(value=326.4, low=300.7, high=355.2, coverage=0.9), "326 (301 to 355)"),
        (NumberAnswer(value=0.00712, low=0.0068, high=0.0075, coverage=0.9), "0.00712 (0.00680 to 0.00750)"),
        (NumberAnswer(value=1234567.8, low=1e6, high=2e6, coverage=0.9), "1,234,568 (1,000,000 to 2,000,000)"),
        (NumberAnswer(value=326.44), "326.4"),
        (NumberAnswer(value=5.0, low=5.0, high=5.0, coverage=0.9), "5.000 (5.000 to 5.000)"),
    ],
)  # fmt: skip
def test_an_answer_is_read_with_the_digits_that_mean_something(
    answer: NumberAnswer, text: str
) -> None:
    assert EVALUATOR.summary(answer) == [(text, None)]


def rows(*ids: str) -> pa.Table:
    sizes = [float(10 * number) for number in range(len(ids))]
    return pa.table({"id": ids, "size": sizes, "target": sizes[::-1]})


def test_cases_have_the_slices_of_the_task_and_of_feedback() -> None:
    plain = list(EVALUATOR.cases(rows("a", "b", "c")))
    assert [case.truth for case in plain] == [20.0, 10.0, 0.0]
    assert plain[0].slices == {"size": "small"}
    mixed = list(EVALUATOR.cases(rows("a", f"{base.FEEDBACK}1")))
    assert [case.slices["from"] for case in mixed] == ["source", "feedback"]


def test_examples_go_from_small_numbers_to_large_ones() -> None:
    table = rows(*(str(number) for number in range(61)))
    sizes = [query.size for query in EVALUATOR.example(table)]  # type: ignore[attr-defined]
    assert sizes == [500.0, 400.0, 300.0, 200.0, 100.0]
    assert len(EVALUATOR.example(table.slice(0, 1))) == 1
    assert not EVALUATOR.example(table.slice(0, 0))
