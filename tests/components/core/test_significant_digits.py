"""Numbers of any size are read at a glance."""

from __future__ import annotations

import pytest

from components.core.significant_digits import significant_digits


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (523.4, "523.4"),
        (0.0071, "0.007100"),
        (0.85123, "0.8512"),
        (0, "0.000"),
        (1.0, "1.000"),
        (12345.6, "12,346"),
        (-4.1284, "-4.128"),
        (1.2345e12, "1.234e12"),
        (3e-9, "3.000e-9"),
        (float("nan"), "nan"),
        (float("-inf"), "-inf"),
    ],
)
def test_four_digits_are_written(value: float, text: str) -> None:
    assert significant_digits(value) == text


def test_whole_digits_are_never_cut() -> None:
    assert significant_digits(987654.3, 2) == "987,654"
    assert significant_digits(0.0123456, 3) == "0.0123"
