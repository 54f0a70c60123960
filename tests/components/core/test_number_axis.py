"""Numbers of any size as texts and on axes."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from components.core.number_axis import (
    NumberAxis,
    axis_of,
    axis_with_zero,
    number_text,
    plot_text,
)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (326.0, "326"),
        (1204.4, "1,204"),
        (523.44, "523.4"),
        (-0.0042131, "−0.004213"),
        (0.0, "0"),
        (123_456_789.0, "123,456,789"),
        (1.2e18, "1.2\u202f×\u202f10¹⁸"),
        (9.99996e-9, "1\u202f×\u202f10⁻⁸"),
        (-5e-324, "−4.941\u202f×\u202f10⁻³²⁴"),
        (float("nan"), "–"),
        (None, "–"),
    ],
)
def test_numbers_have_four_digits_and_whole_ones_all(value: float | None, text: str) -> None:
    assert number_text(value) == text


def test_numbers_of_a_plot_are_short() -> None:
    assert [plot_text(value) for value in (12345.6, 1.23456e7, 0.00012)] == [
        "12,346",
        "1.23\u202f×\u202f10⁷",
        "1.2\u202f×\u202f10⁻⁴",
    ]


RNG = np.random.default_rng(0)
SAMPLES = {
    "prices": np.exp(RNG.normal(7.8, 0.5, 1000)),
    "negative": RNG.normal(-5, 1, 1000),
    "huge": RNG.normal(3e12, 1e12, 1000),
    "tiny": RNG.normal(3e-9, 1e-9, 1000),
    "wide": np.exp(RNG.normal(0, 9, 1000)),
    "two decades": np.geomspace(0.01, 2, 100),
    "far from 0": 1e12 + RNG.normal(0, 1, 1000),
    "far below 0": -1e6 + RNG.normal(0, 1e-4, 1000),
    "constant": np.full(1000, 7.0),
    "zero": np.zeros(1000),
    "last place": 1e12 + np.array([0.0, 1.3e-4]),
    "one": np.array([326.0]),
}


@pytest.mark.parametrize("name", SAMPLES)
def test_ticks_are_few_distinct_short_and_within(name: str) -> None:
    axis = axis_of(SAMPLES[name], may_be_logarithmic=True)
    positions, texts = axis.ticks()
    assert 2 <= len(texts) == len(set(texts)) <= 8
    assert all(0 <= position <= 1 for position in positions)
    assert all(low < high for low, high in itertools.pairwise(positions))
    assert max(map(len, texts)) <= 8
    drawn = axis.positions(SAMPLES[name])
    assert ((drawn >= 0) & (drawn <= 1)).all()


def test_ticks_say_their_unit_in_the_title() -> None:
    assert NumberAxis(0, 3e12).title("price") == "price (× 10¹²)"
    assert NumberAxis(0, 3e12).ticks()[1] == ["0", "1", "2", "3"]
    assert NumberAxis(-4e-9, 4e-9).title("price") == "price (× 10⁻⁹)"
    assert NumberAxis(0, 20_000).title("price") == "price"
    assert NumberAxis(1e9, 1e9 + 10).title("price") == "price (+ 1,000,000,000)"
    assert NumberAxis(1e-3, 1e3, True).title("price") == "price (log scale)"
    assert NumberAxis(1e-9, 1e3, True).ticks()[1][0] == "10⁻⁹"


def test_a_zero_has_no_sign() -> None:
    assert NumberAxis(-1, 1).ticks()[1] == ["−1.0", "−0.5", "0.0", "0.5", "1.0"]


def test_values_far_from_all_others_are_cut() -> None:
    values = np.append(np.linspace(0, 100, 1000), [1e9, -1e9])
    axis = axis_of(values)
    assert -110 < axis.low < 0 and 100 < axis.high < 210
    assert axis.beyond(values).sum() == 2
    assert axis.positions(values)[-2:].tolist() == [1.0, 0.0]


def test_no_value_of_a_few_is_cut() -> None:
    values = np.array([1.0, 2.0, 1e6])
    assert not axis_of(values).beyond(values).any()


def test_only_positive_values_of_a_wide_range_are_logarithmic() -> None:
    wide = np.geomspace(1, 1e4, 200)
    assert axis_of(wide, may_be_logarithmic=True).is_logarithmic
    assert not axis_of(wide).is_logarithmic
    assert not axis_of(np.append(wide, 0.0), may_be_logarithmic=True).is_logarithmic
    assert not axis_of(wide[:80], may_be_logarithmic=True).is_logarithmic


@pytest.mark.parametrize("sign", [1, -1])
def test_an_axis_of_errors_has_the_zero(sign: int) -> None:
    axis = axis_with_zero(sign * np.linspace(1000, 1001, 100))
    assert axis.low < 0 < axis.high
    assert max(abs(axis.low), abs(axis.high)) < 1100
