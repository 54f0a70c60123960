"""Truths of numbers, the profile of errors, and the test that errors are larger."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError
from scipy.stats import mannwhitneyu

from components.tasks.shared.evaluator.regression.number_feedback import (
    AbsoluteErrors,
    NumberFeedback,
    NumberTruth,
)

FEEDBACK = NumberFeedback()
TARGETS = {"center": [3932.8], "scale": [3989.4], "range": [326.0, 18823.0]}
RNG = np.random.default_rng(0)


def profile(errors: Sequence[float] | Any) -> dict[str, Any]:
    """Return the profile of answers with some errors, as a card has it."""
    answers = [SimpleNamespace(value=float(error)) for error in errors]
    stored = FEEDBACK.profile(answers, [0.0] * len(answers))
    AbsoluteErrors.model_validate(stored)
    return dict(json.loads(json.dumps(stored, allow_nan=False)))


def pairs(errors: Sequence[float] | Any) -> list[tuple[str, str]]:
    return [(repr(float(error)), "0.0") for error in errors]


@pytest.mark.parametrize("value", [3.5, 3, -1e12, 0.0])
def test_a_truth_is_a_finite_number(value: float) -> None:
    assert NumberTruth.model_validate_json(json.dumps({"value": value})).value == value


@pytest.mark.parametrize("text", ["NaN", "Infinity", '"3.5"', "true", "null", "1e999"])
def test_no_other_value_is_a_truth(text: str) -> None:
    with pytest.raises(ValidationError):
        NumberTruth.model_validate_json(f'{{"value": {text}}}')


def test_numbers_far_outside_of_training_are_refused() -> None:
    for value in (326.0, 0.0, -100_000.0, 200_000.0):
        assert FEEDBACK.check(NumberTruth(value=value), TARGETS) is None
    refused = ("value", "is far outside the values of training, 326 to 18,823")
    for value in (1e6, -1e6, 1e308):
        assert FEEDBACK.check(NumberTruth(value=value), TARGETS) == refused


def test_a_range_without_a_finite_width_refuses_nothing() -> None:
    targets = {"range": [-1.7e308, 1.7e308]}
    assert FEEDBACK.check(NumberTruth(value=1.79e308), targets) is None


def test_texts_keep_numbers_exactly() -> None:
    answer = SimpleNamespace(value=1 / 3)
    assert float(FEEDBACK.text(answer)) == 1 / 3
    assert FEEDBACK.truth_text({"value": 12}) == "12.0"
    assert FEEDBACK.features_of(FEEDBACK.text(answer), None) == {"value": 1 / 3}
    assert set(FEEDBACK.features) == {"value"}


@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e15, 1e300])
def test_errors_of_any_unit_are_kept_and_compared(scale: float) -> None:
    rng = np.random.default_rng(3)
    known = profile(scale * rng.normal(0, 1, 500))
    same, _ = FEEDBACK.worse(known, pairs(scale * rng.normal(0, 1, 200)))
    worse, change = FEEDBACK.worse(known, pairs(scale * rng.normal(0, 2, 200)))
    better, _ = FEEDBACK.worse(known, pairs(scale * rng.normal(0, 0.5, 200)))
    assert same > 0.05 and worse < 0.001 and better > 0.99
    assert change.startswith("median error ") and " -> " in change


def test_the_change_is_that_of_the_median() -> None:
    _, change = FEEDBACK.worse(profile(np.arange(1001.0)), pairs([1200.0] * 9))
    assert change == "median error 500 -> 1,200"


def test_the_test_is_that_of_mann_and_whitney() -> None:
    before = RNG.integers(0, 20, 300).astype(float)
    now = RNG.integers(1, 24, 80).astype(float)
    p, _ = FEEDBACK.worse(profile(before), pairs(now))
    # The profile holds all 20 values, and counts errors above them as one.
    expected = mannwhitneyu(np.minimum(now, before.max() + 1), before, alternative="greater")
    assert p == pytest.approx(expected.pvalue, rel=1e-6)


def test_equal_errors_are_no_change() -> None:
    third = [1 / 3] * 50
    assert FEEDBACK.worse(profile(third), pairs(third))[0] > 0.4
    assert FEEDBACK.worse(profile([0.0] * 50), pairs([0.0] * 20))[0] == 1.0
    assert FEEDBACK.worse(profile([0.0] * 50), pairs([1.0] * 20))[0] < 1e-6


def test_false_alarms_have_the_stated_chance() -> None:
    rng = np.random.default_rng(2)
    known = profile(rng.exponential(1, 3000))
    alarms = sum(FEEDBACK.worse(known, pairs(rng.exponential(1, 30)))[0] < 0.05 for _ in range(500))
    assert 10 <= alarms <= 42


def test_a_hundred_thousand_truths_take_less_than_a_second() -> None:
    known = profile(RNG.normal(0, 1, 100_000))
    now = pairs(RNG.normal(0, 1, 100_000))
    begin = time.perf_counter()
    FEEDBACK.worse(known, now)
    assert time.perf_counter() - begin < 1.5


@pytest.mark.parametrize(
    "errors",
    [
        {"kind": "numbers", "rows": 10**12, "edges": [0.0, 1.0, 1.0], "below": [1, 5, 10**12]},
        {"kind": "numbers", "rows": 1, "edges": [0.0], "below": [0]},
    ],
)
def test_a_card_from_outside_is_no_trap(errors: dict[str, Any]) -> None:
    stored = {"scale": 1.0, "errors": errors}
    AbsoluteErrors.model_validate(stored)
    p, _ = FEEDBACK.worse(stored, pairs([0.5, 3.0]))
    assert 0 <= p <= 1


@pytest.mark.parametrize("scale", [0.0, -1.0, float("inf"), "1"])
def test_the_scale_of_a_card_is_a_positive_number(scale: Any) -> None:
    with pytest.raises(ValidationError):
        AbsoluteErrors.model_validate({**profile([1.0]), "scale": scale})


def test_an_overflowing_error_is_the_largest_number() -> None:
    answers = [SimpleNamespace(value=1.7e308)]
    AbsoluteErrors.model_validate(FEEDBACK.profile(answers, [-1.7e308]))
