"""Calibration, curves and thresholds of answers that state probabilities."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics as sk

from components.core.svg import Plot
from components.metrics.calibration import expected_calibration_error, reliability_bins
from components.metrics.temperature_scaling import fit_temperature, scale
from components.metrics.threshold_curves import threshold_curve, threshold_rows
from components.tasks.base import AnsweredSplit, Case, ReportSection, ReportsProbabilities
from components.tasks.shared.evaluator.classification.answer_panels import ClassificationReport
from components.tasks.shared.evaluator.classification.evaluator import Answer

HOSTILE = "<script>alert(1)</script>"


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities (n, c)."""
    powers = np.exp(logits - logits.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


def drawn(seed: int, count: int, classes: int, factor: float) -> tuple[np.ndarray, np.ndarray]:
    """Scores of a model whose logits are `factor` times those that the truths are drawn from."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 1.5, (count, classes))
    honest = softmax(logits)
    truth = (honest.cumsum(1) < rng.random((count, 1))).sum(1).clip(max=classes - 1)
    return softmax(logits * factor), truth


def split(scores: np.ndarray, truth: np.ndarray, names: list[str]) -> AnsweredSplit:
    """Answers with these probabilities, and their cases."""
    answers = [
        Answer(
            label=names[int(row.argmax())],
            probability=float(row.max()),
            probabilities=dict(zip(names, row.tolist(), strict=True)),
        )
        for row in scores
    ]
    cases = [Case(str(number), None, names[index], {}) for number, index in enumerate(truth)]
    return AnsweredSplit(answers, cases)


def section(names: list[str], seed: int = 0) -> ReportSection:
    """The section of a model that is too sure."""
    report = ClassificationReport()
    assert isinstance(report, ReportsProbabilities)
    parts = [split(*drawn(seed + n, 300, len(names), 2.5), names) for n in range(2)]
    return report.probability_section(*parts, {"classes": names})


@pytest.mark.parametrize("factor", [0.5, 1.0, 2.5])
def test_the_temperature_undoes_a_factor_of_the_logits(factor: float) -> None:
    scores, truth = drawn(1, 20_000, 3, factor)
    assert fit_temperature(scores, truth) == pytest.approx(factor, rel=0.05)


def test_scaling_mends_the_calibration_and_keeps_the_answers() -> None:
    temperature = fit_temperature(*drawn(1, 5000, 4, 2.5))
    scores, truth = drawn(2, 5000, 4, 2.5)
    scaled = scale(scores, temperature)
    right = scores.argmax(1) == truth
    assert (scaled.argmax(1) == scores.argmax(1)).all()
    assert expected_calibration_error(scores.max(1), right) > 0.15
    assert expected_calibration_error(scaled.max(1), right) < 0.03
    assert scaled.sum(1) == pytest.approx(np.ones(5000))
    np.testing.assert_allclose(scale(scores, 1.0), scores)


def test_a_temperature_is_finite_where_all_answers_are_right() -> None:
    scores = np.array([[1.0, 0.0], [0.0, 1.0], [0.7, 0.3]])
    temperature = fit_temperature(scores, np.array([0, 1, 0]))
    assert 0.05 <= temperature <= 20
    assert np.isfinite(scale(scores, temperature)).all()


def test_bins_hold_their_upper_end_and_count_all_cases() -> None:
    confidence = np.array([0.0, 1 / 15, 1 / 15 + 1e-9, 0.5, 1.0])
    right = np.array([True, False, True, True, True])
    bins = reliability_bins(confidence, right)
    assert [one.cases for one in bins] == [2, 1, 1, 1]
    assert [one.right for one in bins] == [1, 1, 1, 1]
    assert bins[0].accuracy == 0.5 and bins[-1].confidence == 1.0


@pytest.mark.parametrize("steps", [3, 1000])
def test_curves_are_scikit_learns(steps: int) -> None:
    rng = np.random.default_rng(3)
    positive = rng.random(400) < 0.3
    score = np.round((rng.random(400) + positive) * steps) / steps
    curve = threshold_curve(positive, score)
    assert curve is not None
    rates, recall, _ = sk.roc_curve(positive, score, drop_intermediate=False)
    np.testing.assert_allclose(curve.false_positive_rate, rates[1:])
    np.testing.assert_allclose(curve.recall, recall[1:])
    precision, recall, _ = sk.precision_recall_curve(positive, score)
    np.testing.assert_allclose(curve.precision[::-1], precision[:-1])
    np.testing.assert_allclose(curve.recall[::-1], recall[:-1])
    assert curve.area == pytest.approx(sk.roc_auc_score(positive, score))
    assert curve.average_precision == pytest.approx(sk.average_precision_score(positive, score))


def test_one_kind_of_cases_has_no_curve() -> None:
    assert threshold_curve(np.ones(4, dtype=bool), np.arange(4.0)) is None


def test_a_threshold_that_nothing_reaches_has_no_precision() -> None:
    positive = np.array([True, False, True, False])
    low, high = threshold_rows(positive, np.array([0.9, 0.6, 0.4, 0.1]), [0.5, 0.95])
    assert (low.precision, low.recall, low.f1) == (0.5, 0.5, 0.5)
    assert (high.precision, high.recall, high.f1) == (None, 0.0, 0.0)


def test_two_classes_have_one_curve_and_a_table_of_thresholds() -> None:
    panels = section(["no", "yes"]).panels
    titles = [panel.title for panel in panels]
    assert titles == [
        "Reliability diagram",
        "Temperature scaling",
        "ROC curve",
        "Precision-recall curve",
        "Thresholds",
    ]
    assert all(panel.zh for panel in panels)
    roc = panels[2].content
    assert isinstance(roc, Plot)
    assert [text.split()[0] for _, text in roc.legend] == ["yes"]
    assert str(panels[4].content).count("<tr><th>0.") == 9


def test_several_classes_have_one_curve_each_and_no_thresholds() -> None:
    panels = section(["a", "b", "c"]).panels
    assert [panel.title for panel in panels][2:] == ["ROC curve", "Precision-recall curve"]
    roc = panels[2].content
    assert isinstance(roc, Plot)
    assert sorted(text.split()[0] for _, text in roc.legend) == ["a", "b", "c"]


def test_of_many_classes_the_worst_eight_are_drawn() -> None:
    panels = section([f"c{number}" for number in range(11)]).panels
    roc = panels[2].content
    assert isinstance(roc, Plot)
    assert len(roc.legend) == 8
    assert "8 with the lowest" in panels[2].note


def test_the_temperature_is_that_of_validation() -> None:
    names = ["no", "yes"]
    calm = split(*drawn(1, 4000, 2, 1.0), names)
    sure = split(*drawn(2, 4000, 2, 3.0), names)
    report = ClassificationReport()
    note = report.probability_section(calm, sure, {"classes": names}).panels[1].note
    assert fitted(note) == pytest.approx(1, abs=0.1)
    note = report.probability_section(sure, calm, {"classes": names}).panels[1].note
    assert fitted(note) == pytest.approx(3, abs=0.3)


def fitted(note: str) -> float:
    """The temperature that a note states."""
    return float(note.partition("divided by ")[2].partition(". Test")[0])


def test_names_of_classes_stay_text() -> None:
    panels = section(["no", HOSTILE]).panels
    for panel in panels:
        content = panel.content
        html = content.svg if isinstance(content, Plot) else str(content)
        assert "<script" not in html
