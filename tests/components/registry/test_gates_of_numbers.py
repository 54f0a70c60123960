"""The gates judge answers that are numbers: no answer is right or wrong, and less error is better."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from components.metrics.regression import relative_gain, rmse
from components.registry.release.gates import (
    ChampionResults,
    Gate,
    GateParams,
    GateRules,
    judge_gates,
)
from components.registry.versions.test_cases import Cases
from components.tasks.base import Calibration, CaseStats, Comparison, Suspicion

PARAMS = GateParams(champion_margin=0.02, slice_margin=0.1, slice_drop=0.5)
HALF = 200


class NumberGates:
    """Compares errors; answers state no interval."""

    statistics = ("error",)

    def compare(self, mine: CaseStats, theirs: CaseStats, alpha: float) -> Comparison:
        errors = [np.asarray(stats["error"], dtype=float) for stats in (mine, theirs)]
        gain, low, high = relative_gain(errors[0], errors[1], alpha, resamples=400)
        return Comparison(gain, low, high, f"RMSE {rmse(errors[0]):.3g} to {rmse(errors[1]):.3g}")

    def compare_with_all(self, part: CaseStats, whole: CaseStats, alpha: float) -> Comparison:
        gain = 1 - self.level(part) / self.level(whole)
        return Comparison(gain, gain, gain, "against all cases")

    def level(self, stats: CaseStats) -> float:
        return rmse(np.asarray(stats["error"], dtype=float))

    def describe_level(self, stats: CaseStats) -> str:
        return f"RMSE {self.level(stats):.3g}"

    def calibration(self, stats: CaseStats, alpha: float) -> Calibration | str:
        return "answers state no interval"

    def suspect_feedback(
        self, stats: CaseStats, slices: Mapping[str, Sequence[int]], alpha: float
    ) -> Suspicion | None:
        return None


RULES = GateRules(PARAMS, NumberGates())
SLICES = {"size: small": range(HALF), "size: large": range(HALF, 2 * HALF)}


def errors(small: float, large: float, seed: int = 0) -> Cases:
    """Errors with these deviations. The seed is that of the cases, so models are paired."""
    rng = np.random.default_rng(seed)
    deviations = np.repeat([small, large], HALF)
    values = rng.normal(0, deviations).tolist()
    slices = {name: list(rows) for name, rows in SLICES.items()}
    return Cases([str(i) for i in range(2 * HALF)], {"error": values}, slices, "t")


def gates(cases: Cases, champion: Cases | None) -> dict[str, Gate]:
    row: dict[str, Any] = {
        "name": "boosting",
        "bundle_sha256": "new",
        "test": {"rmse": 1.0},
        "over_baseline": [-0.4, -0.2],
    }
    baseline = {"name": "linear", "test": {"rmse": 1.3}}
    results = None if champion is None else ChampionResults(3, "old", champion)
    judged = judge_gates(
        row, baseline, results, RULES, cases=cases, leaked_rows=0, metric="rmse", goal="min"
    )
    return {gate.name: gate for gate in judged}


@pytest.mark.parametrize(
    ("mine", "verdict"),
    [((0.9, 0.9), "passed"), ((1.0, 1.0), "refused"), ((1.1, 1.1), "refused")],
)
def test_less_error_replaces_the_champion_and_a_tie_does_not(
    mine: tuple[float, float], verdict: str
) -> None:
    gate = gates(errors(*mine), errors(1.0, 1.0))["champion"]
    assert gate.verdict == verdict
    assert gate.value == pytest.approx(1 - mine[0])
    assert gate.detail.startswith("against version 3 on 400 cases: RMSE ")
    assert gate.detail.endswith("; a tie does not promote") is (mine == (1.0, 1.0))


def test_a_gain_that_is_not_sure_is_for_a_person() -> None:
    noisy = gates(errors(0.97, 0.97, seed=1), errors(1.0, 1.0))["champion"]
    assert noisy.verdict in ("borderline", "passed", "refused")
    assert noisy.interval is not None
    assert noisy.interval[0] < noisy.value < noisy.interval[1]  # type: ignore[operator]


def test_a_slice_with_more_error_refuses_though_all_cases_have_less() -> None:
    judged = gates(errors(0.5, 1.3), errors(1.0, 1.1))
    assert judged["champion"].verdict == "passed"
    assert judged["slices"].verdict == "refused"
    assert judged["slices"].detail.startswith("worst: size: large (200 cases, RMSE 1.")


def test_without_a_champion_a_slice_is_compared_with_all_cases() -> None:
    assert gates(errors(1.0, 1.2), None)["slices"].verdict == "passed"
    assert gates(errors(0.2, 3.0), None)["slices"].verdict == "passed"
    few = errors(0.2, 0.2)
    large = few.stats["error"][:HALF] + [10.0] * HALF  # type: ignore[operator]
    cases = Cases(few.ids, {"error": large}, {"size: large": list(range(300, 400))}, "t")
    assert gates(cases, None)["slices"].value == pytest.approx(1 - 2**0.5, abs=0.01)


def test_the_baseline_is_compared_with_the_goal_of_the_metric() -> None:
    judged = gates(errors(1.0, 1.0), None)
    assert judged["baseline"].verdict == "passed"
    assert judged["baseline"].value == pytest.approx(0.3)
    assert judged["calibration"].verdict == "not applicable"
    assert judged["calibration"].detail == "answers state no interval"
    assert judged["leak"].verdict == "passed"
