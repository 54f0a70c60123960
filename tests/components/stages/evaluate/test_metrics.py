"""Figures as scikit-learn has them, and intervals that cover."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest
from sklearn import metrics as sk

from components.metrics import bootstrap
from components.tasks.base import Case
from components.tasks.shared.evaluator.classification.evaluator import (
    Answer,
    ClassificationEvaluator,
)
from components.tasks.shared.evaluator.regression.evaluator import RegressionEvaluator
from components.training import evaluation

NAMES = ["差", "中", "好", "很好"]
METRICS = ClassificationEvaluator.metrics
NAMES_OF_CONFUSIONS = ("accuracy", "macro_f1", "precision", "recall", "mcc")
CONFUSIONS = [metric for metric in METRICS if metric.name in NAMES_OF_CONFUSIONS]
ACCURACY = ClassificationEvaluator.report_metric


def made(
    seed: int, count: int, classes: int, skill: float, steps: int
) -> tuple[list[Answer], list[Case[Any]], np.ndarray, np.ndarray]:
    """Answers to cases, truths (n,) and probabilities (n, c); `steps` levels of probability make ties."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, classes, count)
    truth[:classes] = range(classes)
    scores = np.ceil(rng.random((count, classes)) * steps)
    scores[np.arange(count), truth] += (rng.random(count) < skill) * steps
    scores /= scores.sum(1, keepdims=True)
    answers = [
        Answer(
            label=NAMES[int(row.argmax())],
            probability=float(row.max()),
            probabilities=dict(zip(NAMES[:classes], row.tolist(), strict=True)),
        )
        for row in scores
    ]
    return answers, [Case(str(i), None, NAMES[t], {}) for i, t in enumerate(truth)], truth, scores


def plain_calibration_error(confidence: np.ndarray, right: np.ndarray) -> float:
    """The definition of Guo et al. 2017, bin by bin."""
    error = 0.0
    for number in range(15):
        inside = (confidence > number / 15) & (confidence <= (number + 1) / 15)
        if inside.any():
            error += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    return error


@pytest.mark.parametrize("classes", [2, 3, 4])
@pytest.mark.parametrize("steps", [2, 5, 1000])
def test_figures_are_scikit_learns(classes: int, steps: int) -> None:
    answers, cases, truth, scores = made(classes + steps, 120, classes, 0.5, steps)
    predicted = scores.argmax(1)
    found = evaluation.compute_metrics(
        METRICS,
        {metric.name: evaluation.per_example_stats(metric, answers, cases) for metric in METRICS},
    )
    macro: dict[str, Any] = {"average": "macro", "zero_division": 0}
    area = (
        sk.roc_auc_score(truth, scores[:, 1])
        if classes == 2
        else sk.roc_auc_score(truth, scores, multi_class="ovr", average="macro")
    )
    assert found == pytest.approx(
        {
            "accuracy": sk.accuracy_score(truth, predicted),
            "precision": sk.precision_score(truth, predicted, **macro),
            "recall": sk.recall_score(truth, predicted, **macro),
            "macro_f1": sk.f1_score(truth, predicted, **macro),
            "auc": area,
            "mcc": sk.matthews_corrcoef(truth, predicted),
            "log_loss": sk.log_loss(truth, scores),
            "ece": plain_calibration_error(scores.max(1), predicted == truth),
        }
    )


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=30))
def test_subsets_without_a_class_are_judged_by_those_they_have(
    pairs: list[tuple[int, int]],
) -> None:
    truth, predicted = np.array(pairs).T
    stats = {"truth": truth, "predicted": predicted, "scores": np.eye(3)[predicted]}
    names = ("macro_f1", "recall", "precision", "mcc")
    by_name = {metric.name: metric.value(stats) for metric in METRICS if metric.name in names}
    macro: dict[str, Any] = {"average": "macro", "zero_division": 0}
    assert by_name["macro_f1"] == pytest.approx(sk.f1_score(truth, predicted, **macro))
    assert by_name["recall"] == pytest.approx(sk.recall_score(truth, predicted, **macro))
    assert by_name["precision"] == pytest.approx(sk.precision_score(truth, predicted, **macro))
    assert by_name["mcc"] == pytest.approx(sk.matthews_corrcoef(truth, predicted))


def test_a_probability_of_zero_has_a_finite_loss() -> None:
    (loss,) = (metric for metric in METRICS if metric.name == "log_loss")
    answer = Answer(label="差", probability=1.0, probabilities={"差": 1.0, "好": 0.0})
    assert loss.example_stats(answer, "好")["loss"] == pytest.approx(36.04, abs=0.01)


def test_an_area_that_is_not_defined_is_none() -> None:
    answers, cases, _, _ = made(0, 40, 2, 0.5, 5)
    some = [i for i, case in enumerate(cases) if case.truth == NAMES[0]]
    stats = {
        metric.name: evaluation.per_example_stats(
            metric, [answers[i] for i in some], [cases[i] for i in some]
        )
        for metric in METRICS
    }
    assert evaluation.compute_metrics(METRICS, stats)["auc"] is None
    assert bootstrap.intervals(METRICS, stats, 100, 0.95, 0)["auc"] is None


def test_intervals_cover_the_truth_as_often_as_they_say() -> None:
    """Accuracy is 0.8 in the population; 90% intervals of 150 samples of 100 cases."""
    metric = next(each for each in METRICS if each.name == "accuracy")
    rng, covered, widths = np.random.default_rng(1), 0, []
    for seed in range(150):
        truth = rng.integers(0, 2, 100)
        predicted = np.where(rng.random(100) < 0.8, truth, 1 - truth)
        interval = bootstrap.intervals(
            [metric],
            {"accuracy": {"truth": truth, "predicted": predicted, "scores": np.eye(2)[predicted]}},
            200,
            0.9,
            seed,
        )["accuracy"]
        assert interval is not None
        covered += interval[0] <= 0.8 <= interval[1]
        widths.append(interval[1] - interval[0])
    assert 0.82 <= covered / 150 <= 0.96
    assert np.mean(widths) == pytest.approx(2 * 1.645 * 0.04, rel=0.15)


@pytest.mark.parametrize("right", [True, False])
@pytest.mark.parametrize("cases", [1, 10, 360])
def test_a_split_without_a_mistake_or_a_hit_has_the_exact_interval_of_a_share(
    right: bool, cases: int
) -> None:
    truth = np.arange(cases) % 2
    predicted = truth if right else 1 - truth
    stats = {"truth": truth, "predicted": predicted}
    found = bootstrap.intervals(CONFUSIONS, dict.fromkeys(NAMES_OF_CONFUSIONS, stats), 100, 0.95, 0)
    interval = binomtest(cases if right else 0, cases).proportion_ci(0.95, "exact")
    for name in ("accuracy", "macro_f1", "precision", "recall"):
        assert found[name] == pytest.approx((interval.low, interval.high))
    # A correlation is no share, and its resamples agree.
    assert found["mcc"] is None


def test_one_mistake_does_not_make_the_interval_of_a_share_narrower() -> None:
    widths = []
    for mistakes in range(3):
        truth = np.zeros(200, int)
        predicted = (np.arange(200) < mistakes).astype(int)
        stats = {"accuracy": {"truth": truth, "predicted": predicted}}
        interval = bootstrap.intervals([ACCURACY], stats, 100, 0.95, 0)["accuracy"]
        assert interval is not None
        widths.append(interval[1] - interval[0])
    assert widths == sorted(widths)


def test_a_single_number_has_no_interval_but_its_coverage_has() -> None:
    metrics = RegressionEvaluator.metrics
    column = {"low": 1.0, "high": 3.0, "coverage": 0.9, "truth": 2.0, "error": 0.5}
    stats = {name: np.array([value]) for name, value in column.items()}
    by_metric = dict.fromkeys([metric.name for metric in metrics], stats)
    found = bootstrap.intervals(metrics, by_metric, 100, 0.95, 0)
    assert found.pop("coverage") == pytest.approx((0.025, 1.0))
    assert set(found.values()) == {None}


def test_intervals_are_a_function_of_the_seed() -> None:
    answers, cases, _, _ = made(3, 60, 3, 0.5, 9)
    stats = {
        metric.name: evaluation.per_example_stats(metric, answers, cases) for metric in METRICS
    }
    first = bootstrap.intervals(METRICS, stats, 100, 0.95, 1)
    assert first == bootstrap.intervals(METRICS, stats, 100, 0.95, 1)
    assert first != bootstrap.intervals(METRICS, stats, 100, 0.95, 2)


def test_answers_come_in_the_order_of_the_cases_however_they_are_batched() -> None:
    class Echo:
        def predict(self, queries: list[Any]) -> list[Any]:
            return [query.text for query in queries]

    texts = ["long " * (i * 7 % 11) + str(i) for i in range(50)]
    cases: list[Any] = [
        Case(str(i), SimpleNamespace(text=text, model_dump_json=lambda text=text: text), None, {})
        for i, text in enumerate(texts)
    ]
    assert evaluation.answer(Echo(), cases, batch=7) == texts  # type: ignore[arg-type]


def test_a_paired_interval_is_narrower_than_the_two_apart_and_holds_the_truth_as_often_as_it_says() -> (
    None
):
    """Two models that answer alike on most cases; the first is right in 0.8, the second in 0.75 of the population."""
    metric = next(each for each in METRICS if each.name == "accuracy")
    rng, covered, widths = np.random.default_rng(2), 0, []
    for seed in range(150):
        truth, luck = rng.integers(0, 2, 200), rng.random(200)
        first, second = (
            {
                "truth": truth,
                "predicted": np.where(luck < share, truth, 1 - truth),
                "scores": np.zeros((200, 2)),
            }
            for share in (0.8, 0.75)
        )
        low, high = bootstrap.paired_interval(metric, first, second, 200, 0.9, seed)
        covered += low <= 0.05 <= high
        widths.append(high - low)
    assert 0.82 <= covered / 150 <= 0.97
    assert np.mean(widths) < 2 * 1.645 * np.sqrt(0.8 * 0.2 / 200)


def test_the_interval_of_a_percentile_holds_it_as_often_as_it_says() -> None:
    rng = np.random.default_rng(3)
    truth, found = (
        float(np.quantile(rng.exponential(size=1_000_000), 0.95)),
        [
            bootstrap.percentile_interval(rng.exponential(size=200).tolist(), 95, 0.9)
            for _ in range(300)
        ],
    )
    assert np.mean([low <= truth <= high for low, high in found]) >= 0.88
    # too few for a bound: the extremes stand in
    assert bootstrap.percentile_interval([3.0, 1.0, 2.0], 95, 0.95) == (2.0, 3.0)
