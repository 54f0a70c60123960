"""Abstention keeps the stated error on data that the threshold was not chosen on."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from components.core.errors import InputError
from components.inference.abstention import KEY, threshold_of
from components.metrics.selective_prediction import (
    abstention_table,
    coverage_report,
    outcome,
    threshold,
    upper_bound,
)


def calibrated(count: int, seed: int) -> tuple[list[float], list[bool]]:
    """Confidences, and answers that are right as often as these say."""
    rng = np.random.default_rng(seed)
    confidence = 0.5 + 0.5 * rng.beta(2, 1, count)
    return confidence.tolist(), (rng.random(count) < confidence).tolist()


@pytest.mark.parametrize("share", [0.05, 0.1])
def test_the_error_among_answered_questions_is_as_stated_on_held_out_data(share: float) -> None:
    broken, answered = 0, []
    for seed in range(60):
        least = threshold(abstention_table(*calibrated(2000, seed)), share)
        seen = outcome(*calibrated(100_000, 1000 + seed), least)
        broken += seen["wrong"] is not None and seen["wrong"] > share
        answered.append(seen["answered"])
    assert broken <= 6  # one in twenty is the level
    assert 0.1 < np.mean(answered) < 0.9
    everything = outcome(*calibrated(100_000, 7), 0.0)
    assert everything["wrong"] > share


def test_more_error_means_more_answers() -> None:
    table = abstention_table(*calibrated(5000, 3))
    least = [threshold(table, share) for share in (0.02, 0.05, 0.1, 0.15, 0.3)]
    assert least == sorted(least, reverse=True)
    assert least[-1] == table["thresholds"][-1]  # everything that validation has


def test_equal_confidences_are_answered_together_or_not_at_all() -> None:
    confidence, right = [0.9] * 300 + [0.6] * 300, [True] * 300 + [True, False] * 150
    table = abstention_table(confidence, right)
    assert table == {
        "rows": 600,
        "thresholds": [0.9, 0.6],
        "answered": [300, 600],
        "wrong": [0, 150],
    }
    assert threshold(table, 0.05) == 0.9
    assert outcome(confidence, right, 0.9) == {"answered": 0.5, "wrong": 0.0}
    assert threshold(table, 0.4) == 0.6


def test_where_nothing_can_be_promised_nothing_is_answered() -> None:
    rng = np.random.default_rng(0)
    guesses = abstention_table(rng.random(2000).tolist(), (rng.random(2000) < 0.5).tolist())
    assert threshold(guesses, 0.05) == math.inf
    few = abstention_table([0.99] * 20, [True] * 20)
    assert threshold(few, 0.05) == math.inf  # twenty right answers say too little
    assert outcome([0.5, 0.9], [True, True], math.inf) == {"answered": 0.0, "wrong": None}


def test_a_model_that_always_says_the_same_answers_all_or_nothing() -> None:
    right = ([True] * 99 + [False]) * 10
    table = abstention_table([0.99] * 1000, right)
    assert table["answered"] == [1000]
    assert threshold(table, 0.05) == 0.99
    assert threshold(table, 0.005) == math.inf


def test_the_bound_is_that_of_clopper_and_pearson() -> None:
    assert upper_bound(0, 59, 0.05) == pytest.approx(1 - 0.05 ** (1 / 59))
    assert upper_bound(5, 100, 0.025) == pytest.approx(0.1128, abs=1e-4)
    assert upper_bound(3, 3, 0.05) == 1.0


def test_the_table_outlives_json() -> None:
    table = abstention_table(*calibrated(1000, 5))
    assert len(table["thresholds"]) <= 100
    assert threshold_of({KEY: json.loads(json.dumps(table))}, 0.1, "") == threshold(table, 0.1)


@pytest.mark.parametrize(
    "profile",
    [
        {},
        {KEY: None},
        {KEY: {"rows": 0, "thresholds": [], "answered": [], "wrong": []}},
        {KEY: {"thresholds": [0.5], "answered": [3]}},
        {KEY: {"thresholds": [0.5], "answered": [3], "wrong": ["x"]}},
    ],
)
def test_a_card_that_does_not_tell_is_refused(profile: dict[str, object]) -> None:
    with pytest.raises(InputError, match="before abstention") as caught:
        threshold_of(profile, 0.1, "serve.abstain: 0.1")
    assert "serve.abstain: null" in caught.value.remedy


def test_the_report_shows_the_curve_and_what_each_error_costs() -> None:
    told = coverage_report(abstention_table(*calibrated(3000, 1)), *calibrated(3000, 2))
    curve = told["curve"]
    assert curve[-1]["coverage"] == 1.0
    assert curve[0]["accuracy"] > curve[-1]["accuracy"] + 0.1
    assert [line["stated"] for line in told["shares"]] == [0.01, 0.02, 0.05, 0.1, 0.2]
    assert all(
        line["wrong"] is None or line["wrong"] < 1.5 * line["stated"] for line in told["shares"]
    )
    assert coverage_report({}, [], []) == {}
