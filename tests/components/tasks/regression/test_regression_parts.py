"""The parts of regression fit together: what one writes, another reads."""

from __future__ import annotations

import json

import numpy as np
import pytest

from components.core.svg import Plot
from components.metrics.distributions import NumbersDistribution
from components.monitoring.profile import predictions_of
from components.registry.versions.test_cases import Cases
from components.tasks.base import Calibration, Case
from components.tasks.shared.evaluator.regression.answer import NumberAnswer
from components.tasks.shared.evaluator.regression.evaluator import RegressionEvaluator
from components.tasks.shared.evaluator.regression.rmse_comparison import STATISTICS
from components.tasks.shared.schema.regression.number_targets import NumberTargets

EVALUATOR = RegressionEvaluator()
RNG = np.random.default_rng(0)
TRUTHS = np.exp(RNG.normal(8, 1, 600)).tolist()
PLAIN = [NumberAnswer(value=truth * float(RNG.normal(1, 0.1))) for truth in TRUTHS]
TABLE = EVALUATOR.Intervals.model_validate(EVALUATOR.fit_intervals(PLAIN, TRUTHS))
ANSWERS = [EVALUATOR.with_interval(answer, TABLE) for answer in PLAIN]
CASES = [Case(f"id{number}", None, truth, {}) for number, truth in enumerate(TRUTHS)]


def test_the_columns_of_the_report_are_metrics() -> None:
    assert set(EVALUATOR.report.columns) <= {metric.name for metric in EVALUATOR.metrics}


def test_the_report_shows_answers_with_and_without_intervals() -> None:
    manifest = NumberTargets().describe({"train": TRUTHS[:500], "test": TRUTHS[500:]}, {})
    manifest = json.loads(json.dumps(manifest))
    assert len(EVALUATOR.report.winner_panels(ANSWERS, CASES, manifest)) == 4
    assert len(EVALUATOR.report.winner_panels(PLAIN, CASES, manifest)) == 3
    plot, _ = EVALUATOR.report.data_panels(manifest)
    assert isinstance(plot.content, Plot)
    ((name, text),) = EVALUATOR.report.data_details(NumberTargets().info(manifest))
    assert name == "target" and " in train, mean " in text


def test_the_gates_judge_the_statistics_of_the_evaluator() -> None:
    stats = EVALUATOR.case_stats(ANSWERS, TRUTHS)
    assert tuple(stats) == STATISTICS
    ids = [case.id for case in CASES]
    again = Cases.from_json(Cases(ids, stats, {}, "test").to_json()).stats
    calibration = EVALUATOR.gates.calibration(again, 0.05)
    assert isinstance(calibration, Calibration) and calibration.error < 0.05
    assert EVALUATOR.gates.compare(again, stats, 0.05).gain == 0
    assert EVALUATOR.gates.compare_with_all(again, stats, 0.05).gain == pytest.approx(0)
    metric = EVALUATOR.report_metric
    assert EVALUATOR.gates.level(again) == pytest.approx(
        metric.value({"error": np.array(again["error"]), "truth": np.array(TRUTHS)})
    )
    plain = EVALUATOR.case_stats(PLAIN, TRUTHS)
    assert EVALUATOR.gates.calibration(plain, 0.05) == "answers state no interval"


def test_the_profile_of_a_card_is_valid() -> None:
    profile = predictions_of(EVALUATOR, ANSWERS, TRUTHS)
    EVALUATOR.feedback.Profile.model_validate(json.loads(json.dumps(profile)))
    NumbersDistribution.model_validate(profile["fields"]["value"])


def test_the_page_has_the_title_of_the_checks() -> None:
    script = EVALUATOR.page_script()
    assert f'const OUTCOME = "{EVALUATOR.feedback.outcome}";' in script
