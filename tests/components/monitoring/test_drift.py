"""Tests of drift: few false alarms, found drift, and what each field says."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from label_answers import accuracy_test, validation_profile
from scipy import stats
from stage_runner import TEXT, sentences

from components.fields.text import Text
from components.metrics.distributions import names, numbers
from components.monitoring.drift import drift_results, holm
from components.monitoring.profile import Profiler, profile_of

CHANCE = 0.05


def columns(profile: dict[str, Any], texts: list[str]) -> dict[str, list[Any]]:
    facts = [Profiler(TEXT, profile).features({"text": text, "title": ""}) for text in texts]
    return {name: [each[name] for each in facts] for name in facts[0]}


def test_undrifted_windows_raise_no_more_alarms_than_the_level_says() -> None:
    rng = np.random.default_rng(3)
    alarms = 0
    for _ in range(60):
        draw = {
            "a": rng.poisson(70, 1900),
            "b": rng.choice(["x", "y", "z", "rare"], 1900, p=[0.5, 0.3, 0.199, 0.001]),
            "c": rng.random((1900, 10)) < 0.05,
        }
        words = [[f"w{place}" for place in np.flatnonzero(row)] for row in draw["c"]]
        counts = {f"w{place}": int(draw["c"][:1500, place].sum()) for place in range(10)}
        fields = {
            "a": numbers(draw["a"][:1500].astype(float).tolist()),
            "b": names(draw["b"][:1500].tolist()),
            "c": {"kind": "words", "rows": 1500, "counts": counts},
        }
        window = {
            "a": draw["a"][1500:].astype(float).tolist(),
            "b": draw["b"][1500:].tolist(),
            "c": words[1500:],
        }
        was_right = (rng.random(500) < 0.9).tolist()
        predictions = validation_profile(["x"] * 500, [0.9] * 500, was_right)
        profile = {"fields": fields, "predictions": predictions}
        right = int((rng.random(400) < 0.9).sum())
        found = drift_results(profile, window, CHANCE, accuracy_test(profile, right, 400))
        alarms += any(each.drifted for each in found)
    assert stats.binom.sf(alarms - 1, 60, CHANCE) > 0.001


def test_english_into_a_chinese_model_is_found_and_told(profile: dict[str, Any]) -> None:
    english = [row["text"] for row in sentences(800, 5) if row["text"].isascii()][:200]
    found = {each.field: each for each in drift_results(profile, columns(profile, english), 0.01)}
    assert {name for name, each in found.items() if each.drifted} >= {"text.script", "text.words"}
    assert found["text.script"].change.startswith("han 50.0% -> 0.0%")


def test_like_traffic_is_not_drift(profile: dict[str, Any]) -> None:
    assert not [
        each
        for each in drift_results(
            profile, columns(profile, [row["text"] for row in sentences(200, 9)]), 0.01
        )
        if each.drifted
    ]


def test_new_words_are_drift_though_lengths_and_script_are_the_same(
    profile: dict[str, Any],
) -> None:
    rng = np.random.default_rng(0)
    usual = [row["text"] for row in sentences(200, 9)]
    strange = [
        "".join(rng.permutation(list("龘靐齉爩鱻麤龗灪吁龖厵")))[: len(text)]
        if text[0] > "\u3400"
        else text
        for text in usual
    ]
    found = {
        each.field
        for each in drift_results(profile, columns(profile, strange), 0.01)
        if each.drifted
    }
    assert "text.unknown" in found


def test_the_model_that_answers_otherwise_is_drift(profile: dict[str, Any]) -> None:
    window = {
        "prediction.label": ["好评"] * 90 + ["差评"] * 110,
        "prediction.probability": [0.8] * 200,
    }
    found = {each.field: each.drifted for each in drift_results(profile, window, 0.01)}
    assert found == {"prediction.label": False, "prediction.probability": True}


@pytest.mark.parametrize(("right", "drifted"), [(90, False), (83, False), (70, True), (100, False)])
def test_only_a_fall_of_accuracy_is_drift(
    profile: dict[str, Any], right: int, drifted: bool
) -> None:
    (found,) = drift_results(profile, {}, 0.01, accuracy_test(profile, right, 100))
    assert (found.field, found.drifted) == ("accuracy", drifted)
    assert found.change == f"90.0% -> {right / 100:.1%}"


def test_accuracy_is_fishers_exact_test(profile: dict[str, Any]) -> None:
    (found,) = drift_results(profile, {}, 0.01, accuracy_test(profile, 80, 100))
    assert found.p == pytest.approx(
        stats.fisher_exact([[80, 20], [360, 40]], alternative="less").pvalue
    )


def test_a_shift_is_found_nearly_as_surely_as_by_scipys_test() -> None:
    rng = np.random.default_rng(1)
    before, now = rng.normal(size=2000), rng.normal(0.35, 1, 300)
    (found,) = drift_results({"fields": {"a": numbers(before.tolist())}}, {"a": now.tolist()}, 0.01)
    assert found.p <= 10 * stats.ks_2samp(before, now, method="asymp").pvalue < 1e-4


def test_a_few_strange_numbers_are_found_where_the_middle_does_not_move() -> None:
    rng = np.random.default_rng(2)
    before, now = (
        rng.normal(size=4000),
        np.concatenate([rng.normal(size=475), rng.normal(3, 0.3, 25)]),
    )
    (found,) = drift_results({"fields": {"a": numbers(before.tolist())}}, {"a": now.tolist()}, 0.01)
    assert found.p < 1e-5 < 1e-3 < stats.ks_2samp(before, now).pvalue


def test_the_tests_of_the_ends_keep_the_level() -> None:
    rng, alarms = np.random.default_rng(3), 0
    for _ in range(200):
        drawn = rng.exponential(size=1800).round(2)
        alarms += drift_results(
            {"fields": {"a": numbers(drawn[:1500].tolist())}}, {"a": drawn[1500:].tolist()}, CHANCE
        )[0].drifted
    assert stats.binom.sf(alarms - 1, 200, CHANCE) > 0.001


def test_a_value_that_training_never_had_is_seen() -> None:
    (found,) = drift_results(
        {"fields": {"a": names(["x"] * 900 + ["y"] * 100)}}, {"a": ["x"] * 80 + ["new"] * 20}, 0.01
    )
    assert found.drifted
    assert "new 0.0% -> 20.0%" in found.change


@pytest.mark.parametrize(
    "known",
    [names(["x"] * 100), numbers([3.0] * 100), {"kind": "words", "rows": 100, "counts": {}}],
)
def test_a_field_that_says_nothing_says_nothing(known: dict[str, Any]) -> None:
    value = {"names": "x", "numbers": 3.0, "words": []}[known["kind"]]
    (found,) = drift_results({"fields": {"a": known}}, {"a": [value] * 50}, 0.01)
    assert (found.p, found.drifted) == (1.0, False)


def test_holm_is_as_published() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []


def test_training_looks_no_more_familiar_than_new_rows_of_its_kind(profile: dict[str, Any]) -> None:
    """A row's own words must not count as known on its own word."""
    rng = np.random.default_rng(4)
    syllables = [chr(0x4E00 + i) for i in range(1500)]
    made = ["".join(rng.choice(syllables, 12)) for _ in range(900)]
    told = profile_of(
        {"text": made[:700]}, {"text": Text()}, {"min_characters": 2, "max_characters": 2000}
    )
    found = {each.field: each for each in drift_results(told, columns(told, made[700:]), 0.01)}
    assert found["text.unknown"].p > 0.001
