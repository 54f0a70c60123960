"""Judgments on errors: the paired gain, slices, intervals, feedback."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from scipy.stats import binomtest

from components.registry.release.gates import ChampionResults, GateParams, GateRules, judge_champion
from components.registry.versions.test_cases import Cases
from components.tasks.base import FEEDBACK_SLICE, Calibration
from components.tasks.shared.evaluator.regression.rmse_comparison import (
    STATISTICS,
    RegressionComparison,
)

GATES = RegressionComparison()
RNG = np.random.default_rng(0)


def stats(errors: Sequence[float] | Any, targets: Sequence[float] | Any = ()) -> dict[str, Any]:
    values = [float(error) for error in errors]
    truths = [float(target) for target in targets] or [0.0] * len(values)
    nothing = [None] * len(values)
    return {"error": values, "target": truths, "covered": nothing, "coverage": nothing}


def test_the_statistics_are_those_that_evaluators_make() -> None:
    assert set(stats([1.0])) == set(STATISTICS)
    assert set(GATES.statistics) <= set(STATISTICS)


def test_a_gain_is_the_share_by_which_the_rmse_is_smaller() -> None:
    errors = RNG.normal(0, 100, 500)
    compared = GATES.compare(stats(0.9 * errors), stats(errors), 0.05)
    assert compared.gain == pytest.approx(0.1)
    assert compared.low == pytest.approx(0.1) and compared.high == pytest.approx(0.1)
    assert compared.counted.startswith("RMSE ")
    assert compared.counted.endswith("nearer to 500 and farther from 0 true values")
    assert compared.test == "sign test p = 6.11e-151"


def test_bounds_are_around_the_gain_and_wider_for_a_smaller_chance() -> None:
    mine = stats(RNG.normal(0, 1, 300))
    theirs = stats(RNG.normal(0, 1, 300))
    wide = GATES.compare(mine, theirs, 0.001)
    narrow = GATES.compare(mine, theirs, 0.05)
    assert wide.low < narrow.low < narrow.gain < narrow.high < wide.high


def test_bounds_hold_with_the_stated_chance() -> None:
    rng = np.random.default_rng(5)
    missed = 0
    for _ in range(60):
        shared = rng.normal(0, 1, 200)
        mine = shared + rng.normal(0, 0.5, 200)
        theirs = shared + rng.normal(0, 0.5, 200)
        missed += GATES.compare(stats(mine), stats(theirs), 0.05).low > 0
    assert missed <= 8


@pytest.mark.parametrize("scale", [1e-200, 1e-9, 1e12, 1e200])
def test_a_gain_does_not_depend_on_the_unit(scale: float) -> None:
    mine = RNG.normal(0, 1, 50)
    theirs = RNG.normal(0, 2, 50)
    expected = GATES.compare(stats(mine), stats(theirs), 0.05)
    compared = GATES.compare(stats(scale * mine), stats(scale * theirs), 0.05)
    assert compared.gain == pytest.approx(expected.gain)
    assert compared.low == pytest.approx(expected.low)


def test_no_error_at_all_gives_numbers_of_json() -> None:
    nothing = stats([0.0] * 5)
    assert GATES.compare(nothing, nothing, 0.05).gain == 0
    worse = GATES.compare(stats([0.0, 0, 0, 0, 1]), nothing, 0.05)
    assert worse.gain == worse.low == -1e6
    json.dumps([worse.gain, worse.low, worse.high], allow_nan=False)
    assert GATES.compare(nothing, stats([1.0] * 5), 0.05).gain == 1


def test_many_cases_are_compared_quickly_and_exactly() -> None:
    mine = RNG.normal(0, 1, 100_003)
    theirs = RNG.normal(0, 1.02, 100_003)
    begin = time.perf_counter()
    compared = GATES.compare(stats(mine), stats(theirs), 0.05)
    assert time.perf_counter() - begin < 10
    ratio = math.sqrt(np.mean(mine**2) / np.mean(theirs**2))
    assert compared.gain == pytest.approx(1 - ratio, abs=1e-9)
    # The deviation of the gain of two normal samples is near (1 / n) ** 0.5.
    width = 1.645 / math.sqrt(100_003)
    assert compared.gain - compared.low == pytest.approx(width, rel=0.15)
    assert compared.high - compared.gain == pytest.approx(width, rel=0.15)


def test_a_slice_is_worse_in_deviations_of_the_truths() -> None:
    targets = RNG.normal(5000, 1000, 2000)
    errors = RNG.normal(0, 100, 2000)
    errors[:100] *= 3
    whole = stats(errors, targets)
    part = stats(errors[:100], targets[:100])
    compared = GATES.compare_with_all(part, whole, 0.05)
    expected = (GATES.level(whole) - GATES.level(part)) / targets.std()
    assert compared.gain == pytest.approx(expected)
    assert -0.25 < compared.low < compared.gain < compared.high < -0.1
    assert "of the standard deviation of the true values" in compared.counted
    assert GATES.compare_with_all(whole, whole, 0.05).gain == pytest.approx(0)
    better = GATES.compare_with_all(stats(errors[100:]), whole, 0.05)
    assert better.low > 0


def test_a_slice_of_a_model_worse_than_the_mean_is_measured_by_its_rmse() -> None:
    whole = stats([10.0] * 50, [1.0, 2.0] * 25)
    compared = GATES.compare_with_all(stats([20.0] * 30), whole, 0.05)
    assert compared.gain == compared.high == pytest.approx(-1)
    assert compared.counted == "against 10 of all cases, -100.0% of the RMSE of all"


def test_equal_truths_and_no_errors_have_slices() -> None:
    whole = stats([0.0] * 40, [7.0] * 40)
    assert GATES.compare_with_all(stats([0.0] * 30), whole, 0.05).gain == 0


def test_the_level_is_the_rmse() -> None:
    assert GATES.level(stats([3.0, -4.0])) == pytest.approx(math.sqrt(12.5))
    assert GATES.level(stats([1e200, 0.0])) == pytest.approx(1e200 / math.sqrt(2))
    assert GATES.describe_level(stats([523.44])) == "RMSE 523.4"
    assert GATES.describe_level(stats([0.0])) == "RMSE 0"


def intervals(inside: int, count: int, stated: float = 0.9) -> dict[str, Any]:
    covered = [number < inside for number in range(count)]
    return {**stats([1.0] * count), "covered": covered, "coverage": [stated] * count}


def test_calibration_is_the_distance_of_coverage_and_statement() -> None:
    measured = GATES.calibration(intervals(160, 200), 0.05)
    assert isinstance(measured, Calibration)
    assert measured.error == pytest.approx(0.1)
    bounds = binomtest(160, 200).proportion_ci(0.9, "exact")
    assert measured.low == pytest.approx(0.9 - bounds.high)
    assert measured.high == pytest.approx(0.9 - bounds.low)
    assert measured.detail == "intervals that state 90.0% hold 160 of 200 true values"


@pytest.mark.parametrize("inside", [0, 90, 99, 100])
def test_bounds_of_calibration_enclose_the_error(inside: int) -> None:
    measured = GATES.calibration(intervals(inside, 100), 0.05)
    assert isinstance(measured, Calibration)
    assert 0 <= measured.low <= measured.error <= measured.high <= 1


def test_calibration_needs_intervals_and_cases() -> None:
    assert GATES.calibration(stats([1.0] * 200), 0.05) == "answers state no interval"
    assert GATES.calibration({"error": [1.0]}, 0.05) == "answers state no interval"
    few = GATES.calibration(intervals(50, 60), 0.05)
    assert few == "60 cases with an interval are too few to tell"


def test_feedback_in_the_opposite_order_is_suspect() -> None:
    truths = RNG.normal(100, 10, 60)
    flipped = stats(-2 * (truths - 100) + RNG.normal(0, 10, 60), truths)
    suspicion = GATES.suspect_feedback(flipped, {}, 0.05)
    assert suspicion is not None
    assert suspicion.value < suspicion.limit == 0
    assert suspicion.detail.startswith("answers the 60 test cases that are feedback in the opposi")


@pytest.mark.parametrize(
    "errors",
    [
        pytest.param(RNG.normal(0, 1, 60), id="good"),
        pytest.param(1e6 + RNG.normal(0, 1, 60), id="far off, as after a change of prices"),
        pytest.param(None, id="one answer to everything"),
    ],
)
def test_feedback_that_is_only_new_is_not_suspect(errors: Any) -> None:
    truths = RNG.normal(100, 10, 60)
    if errors is None:
        errors = 100 - truths
    assert GATES.suspect_feedback(stats(errors, truths), {}, 0.05) is None


def test_little_feedback_is_not_suspect() -> None:
    assert GATES.suspect_feedback(stats([2.0, 0.0, -2.0], [1.0, 2.0, 3.0]), {}, 0.05) is None


def test_feedback_without_order_is_suspected_with_the_stated_chance() -> None:
    rng = np.random.default_rng(1)
    suspected = 0
    for _ in range(400):
        truths = rng.normal(0, 1, 20)
        suspected += (
            GATES.suspect_feedback(stats(rng.normal(0, 1, 20) - truths, truths), {}, 0.05)
            is not None
        )
    assert 8 <= suspected <= 34


RULES = GateRules(GateParams(), GATES)


def cases(errors: Any, slices: dict[str, list[int]] | None = None) -> Cases:
    ids = [f"id{number}" for number in range(len(errors))]
    return Cases(ids, stats(errors, RNG.normal(0, 10, len(errors))), slices or {}, "test")


def test_the_gates_of_the_registry_take_a_better_model_and_refuse_a_worse_one() -> None:
    slices = {"cut: Fair": list(range(100)), FEEDBACK_SLICE: []}
    errors = RNG.normal(0, 1, 400)
    better = cases(0.9 * errors, slices)
    champion = ChampionResults(3, "cd", cases(errors, slices))
    passed = judge_champion("ab", better, champion, RULES)
    assert [(gate.name, gate.passed) for gate in passed] == [("champion", True), ("slices", True)]
    refused = judge_champion("ab", champion.cases, ChampionResults(3, "cd", better), RULES)
    assert [gate.verdict for gate in refused] == ["refused", "refused"]
    assert "cut: Fair (100 cases, RMSE " in refused[1].detail


def test_answers_read_back_from_the_registry_can_be_judged() -> None:
    mine = cases(RNG.normal(0, 1, 120), {"cut: Fair": list(range(60))})
    again = Cases.from_json(mine.to_json())
    gates = judge_champion("ab", again, None, RULES)
    assert [gate.verdict for gate in gates] == ["not applicable", "passed"]
