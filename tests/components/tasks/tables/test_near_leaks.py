"""Columns from which the target nearly follows, codes among numbers, and the time of a row."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from datetime import date, timedelta
from typing import Any

import numpy as np
import pytest

from components.stages.ingest.sample import ColumnSample
from components.tasks.base import defaults
from components.tasks.shared.defaults.tables.near_leaks import SampledNumbers, near_leaks
from components.tasks.shared.defaults.tables.number_codes import is_unevenly_used

ROWS = 600
RNG = np.random.default_rng(5)
COST = RNG.normal(100, 30, ROWS).round(2)
OTHER = RNG.normal(100, 30, ROWS).round(2)
NOISE = RNG.normal(0, 1, ROWS).round(2)
PLANNED = [int(n) // 60 * 100 + int(n) % 60 for n in RNG.integers(0, 1440, ROWS)]
LATE = RNG.integers(-30, 120, ROWS)
ARRIVED = [
    (n // 100 * 60 + n % 100 + int(late)) % 1440 for n, late in zip(PLANNED, LATE, strict=True)
]
ARRIVED = [n // 60 * 100 + n % 60 for n in ARRIVED]


def leaks(target: Sequence[Any], decimal: str | None = ".", **columns: Any) -> dict[Any, str]:
    """What nearly gives the target away."""
    numbers = {name: SampledNumbers(list(values), ".") for name, values in columns.items()}
    return near_leaks(numbers, list(target), decimal)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("target", "columns", "expected"),
    [
        (COST + 3 * NOISE, {"a": COST, "b": OTHER}, {("a",): "R2 0.99"}),
        (np.exp(COST / 10), {"a": COST + NOISE / 9}, {("a",): "R2 1.00"}),
        (COST + OTHER, {"a": COST, "b": OTHER}, {("a", "b"): "their sum, in 100% of the rows"}),
        (
            COST - OTHER,
            {"a": OTHER, "b": NOISE, "c": COST},
            {("a", "c"): "their difference, in 100% of the rows"},
        ),
        (2 * COST + OTHER, {"b": OTHER, "a": COST + NOISE}, {("b", "a"): "R2 1.00 together"}),
        (
            LATE,
            {"arrived": ARRIVED, "planned": PLANNED},
            {("arrived", "planned"): "their difference as times of day, in 100% of the rows"},
        ),
        (COST * 5 + OTHER * 7 + NOISE * 300, {"a": COST, "b": OTHER}, {}),
        (COST[:40], {"a": COST[:40]}, {}),
        (COST, {"a": [5.0] * ROWS}, {}),
    ],
)
def test_a_number_follows_from_columns(
    target: Any, columns: dict[str, Any], expected: dict[Any, str]
) -> None:
    assert leaks(target, **columns) == expected


def test_a_part_of_the_target_is_named() -> None:
    found = leaks(COST + OTHER / 2, a=COST, b=NOISE)
    assert list(found) == [("a",)]
    assert found["a",].startswith("a part of it: slope ")


@pytest.mark.parametrize(
    ("target", "columns", "expected"),
    [
        (COST > 100, {"a": COST + NOISE / 50, "b": OTHER}, [("a",)]),
        (COST > OTHER, {"a": COST, "b": OTHER}, [("a", "b")]),
        (np.digitize(COST, [90, 110]), {"a": COST, "b": OTHER}, [("a",)]),
        (COST > 100, {"a": COST + 30 * NOISE, "b": OTHER}, []),
    ],
)
def test_a_class_follows_from_columns(
    target: Any, columns: dict[str, Any], expected: list[Any]
) -> None:
    names = [f"class {value}" for value in target]
    assert list(leaks(names, None, **columns)) == expected


def flight_numbers(count: int = 3_000) -> list[int]:
    """Numbers of which some are used daily and others rarely."""
    drawn = random.Random(3)
    numbers = drawn.sample(range(1, 9_000), 150)
    weights = [drawn.choice([1, 2, 30]) for _ in numbers]
    return drawn.choices(numbers, weights, k=count)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (flight_numbers(), True),
        (RNG.normal(500, 40, 3_000).round(), False),
        (RNG.exponential(90, 3_000).round(), False),
        ([number * 50 for number in flight_numbers()], False),
        ([PLANNED[number % 150] for number in flight_numbers()], False),
        (flight_numbers(200), False),
    ],
)
def test_codes_are_used_unevenly(values: Sequence[float], expected: bool) -> None:
    assert is_unevenly_used(Counter(map(float, values))) == expected


class Source:
    """The first rows of a table."""

    complete = True
    is_table = True

    def __init__(self, columns: dict[str, Sequence[Any]]) -> None:
        self.columns = {}
        for name, values in columns.items():
            self.columns[name] = ColumnSample(name)
            for value in values:
                self.columns[name].add(value)
        self.rows = len(next(iter(columns.values())))


def chosen(**columns: Sequence[Any]) -> Any:
    """What new chooses of a table whose target is `y`."""
    rows = {name: list(values) for name, values in columns.items()}
    return defaults("tabular_regression").choose_inputs(Source(rows), "y", rows)  # type: ignore[attr-defined]


def test_codes_without_an_order_are_categories() -> None:
    codes = flight_numbers()
    y = RNG.normal(0, 1, len(codes))
    found = chosen(flight=codes, y=y)
    assert found.inputs == {"flight": "category"}
    assert found.reasons == {"flight": "codes, 139 different ones without an order"}
    ordered = chosen(flight=codes, y=np.array(codes) + 900 * y)
    assert ordered.inputs == {"flight": "number"}
    beside = chosen(flight=codes, like=np.array(codes) * 1.5 + y, y=y)
    assert beside.inputs["flight"] == "number"


def days(count: int, step: int = 1) -> list[str]:
    """Dates in order."""
    return [str(date(2020, 1, 1) + timedelta(days=step * n)) for n in range(count)]


SHUFFLED = random.Random(1).sample(days(300), 300)
Y = RNG.normal(0, 1, 300)


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({"sold": SHUFFLED}, "sold"),
        ({"sold": days(300), "built": SHUFFLED}, "sold"),
        ({"sold": days(300), "paid": days(300)}, None),
        ({"date_of_birth": days(300)}, None),
        ({"sold": days(10) * 30}, None),
        ({"sold": [*days(250), *[""] * 50]}, None),
    ],
)
def test_the_time_of_a_row_proposes_a_split_by_time(
    columns: dict[str, Sequence[Any]], expected: str | None
) -> None:
    settings = {setting.path: setting for setting in chosen(**columns, a=Y, y=Y**2).in_time}
    if expected is None:
        assert settings == {}
        return
    assert settings["ingest.columns.time"].value == expected
    assert settings["clean.split_by"].value == "time"
    assert settings["clean.split_by"].reason.startswith(f"{expected} tells the time of each row")
