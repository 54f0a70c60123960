"""What `gristmill new` takes the columns of people's tables for, and which one it predicts."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from components.stages.ingest.sample import ColumnSample
from components.tasks.base import defaults
from components.tasks.shared.defaults.tables.column_kinds import (
    ColumnValues,
    guess_column,
    guess_values,
    is_amount,
    values_of,
)
from components.tasks.shared.defaults.tables.likely_targets import likely_targets
from components.tasks.shared.defaults.tables.target_leaks import (
    ComparedColumn,
    names_leak,
    number_leak,
)
from components.tasks.shared.defaults.tables.target_leaks import numbers_of as numbers

ROWS = 200
DRAWN = random.Random(7)
UNIQUE = DRAWN.sample(range(1_000), ROWS)
MANY = [DRAWN.randrange(90, 130) for _ in range(ROWS)]
SECONDS = [DRAWN.randrange(0, 60_000) for _ in range(ROWS)]
LATE_SECONDS = [DRAWN.randrange(10_000, 60_000) for _ in range(ROWS)]
DAYS = [DRAWN.randrange(44_000, 46_000) for _ in range(ROWS)]


def column(name: str, values: Sequence[Any]) -> ColumnSample:
    """A column as it is read from a file."""
    sample = ColumnSample(name)
    for value in values:
        sample.add(value)
    return sample


@dataclass(frozen=True)
class Source:
    """The first rows of a table."""

    columns: dict[str, ColumnSample]
    rows: int = ROWS
    complete: bool = True
    is_table: bool = True


def source(**columns: Sequence[Any]) -> Source:
    """A table of these columns."""
    return Source({name: column(name, values) for name, values in columns.items()})


@pytest.mark.parametrize(
    ("name", "values", "kind"),
    [
        ("price_index", MANY, "number"),
        ("body_mass_index", MANY, "number"),
        ("heat_index", UNIQUE, "number"),
        ("index", MANY, "number"),
        ("order_id", [number / 1_000 for number in UNIQUE], "number"),
        ("%", MANY, "number"),
        ("index", UNIQUE, "id"),
        ("row_index", UNIQUE, "id"),
        ("Unnamed: 0", UNIQUE, "id"),
        ("user_id", UNIQUE, "id"),
        ("phone number", [13_000_000_000 + number for number in UNIQUE], "id"),
        ("手机号", [13_000_000_000 + number for number in UNIQUE], "id"),
        ("customer_id", MANY, "category"),
        ("zipcode", MANY, "category"),
        ("zip", [f"{number:05d}" for number in UNIQUE], "category"),
        ("time_s", SECONDS, "number"),
        ("time", LATE_SECONDS, "number"),
        ("时间", LATE_SECONDS, "number"),
        ("date_diff", DAYS, "number"),
        ("days_since_created", DAYS, "number"),
        ("order_date", LATE_SECONDS, "number"),
        ("order_date", [day + DRAWN.random() / 7 for day in DAYS], "number"),
        ("order_date", [f"{day}.{day % 100:02d}" for day in DAYS], "number"),
        ("execution_time_ns", [1_000_000_000 + number for number in SECONDS], "number"),
        ("order_date", DAYS, "time"),
        ("日期", DAYS, "time"),
        ("created", [f"{day + day % 1_440 / 1_440:.6f}" for day in DAYS], "time"),
        ("created", [f"{day + day % 86_400 / 86_400:.9f}" for day in DAYS], "time"),
        ("created_at", [1_700_000_000 + number for number in SECONDS], "time"),
        ("timestamp_ms", [1_700_000_000_000 + number for number in SECONDS], "time"),
        ("when", [20_240_101 + number % 28 for number in UNIQUE], "time"),
        ("month", [f"{2000 + n % 20}-{n % 12 + 1:02d}" for n in UNIQUE], "time"),
        ("season", [f"{2000 + n % 20}/{n % 20 + 1:02d}" for n in UNIQUE], "category"),
        ("year", [1990 + n % 30 for n in UNIQUE], "number"),
        ("stock", [n if n % 20 else "not available" for n in UNIQUE], "number"),
        ("stock", [n if n % 20 else "暂无" for n in UNIQUE], "number"),
        ("card", [4_000_000_000_000_000 + n for n in UNIQUE], "id"),
        ("merchant", [4_000_000_000_000_000 + n for n in MANY], "category"),
        ("energy", [n * 1e20 for n in UNIQUE], "number"),
    ],
)
def test_the_kind_of_a_column_needs_values_that_fit_its_name(
    name: str, values: Sequence[Any], kind: str
) -> None:
    assert guess_column(column(name, values), ROWS).kind == kind


@pytest.mark.parametrize(
    ("values", "remark"),
    [
        (["x"] * ROWS, "is 'x' in all 200 rows that were read"),
        (["x"] * 199 + [""], "is 'x' in the 199 rows with a value, of 200 that were read"),
        (
            [n % 60 if n % 5 else -999 for n in range(ROWS)],
            "; -999 in 40 rows may mean a missing value",
        ),
        (
            [n % 60 if n % 5 else 999 for n in range(ROWS)],
            "; 999 in 40 rows may mean a missing value",
        ),
        ([n % 998 for n in UNIQUE] + [999] * 9, "numbers, 0 to 999"),
        (
            [f"{n}%" if n % 4 else n for n in range(ROWS)],
            "; 150 rows have a percent sign and are read as hundredths",
        ),
        (["Paris", "paris", "Lyon"] * 60, "3 names; 'Paris' and 'paris' count as different ones"),
        (
            [f"{n % 30} kg" if row else "5 lb" for row, n in enumerate(UNIQUE)],
            "names; with the unit 'kg' they are no numbers",
        ),
        ([f"{n % 30} kg" for n in UNIQUE], "numbers, 0 to 29, all with the unit 'kg'"),
        (
            [f"{n % 30},5 L" for n in UNIQUE],
            "numbers, 0.5 to 29.5, all with the unit 'L', decimal comma",
        ),
        ([f"{n}.5平米" for n in UNIQUE], "all with the unit '平米'"),
        ([f"{n % 30}th" for n in UNIQUE], "30 names; with the unit 'th' they are no numbers"),
        ([f"{n}:30" for n in UNIQUE], "times without a date, which are no input of tables yet"),
        (
            [n if n % 8 else "n. b." for n in range(ROWS)],
            "numbers in 88% of the rows, 'n. b.' and the like in the others",
        ),
    ],
)
def test_the_reason_says_what_a_person_must_know(values: Sequence[Any], remark: str) -> None:
    assert remark in guess_column(column("a", values), ROWS).reason


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([f"{n} kg" for n in UNIQUE], {"kind": "number", "unit": "kg"}),
        ([f"{n},5kg" for n in UNIQUE], {"kind": "number", "decimal": ",", "unit": "kg"}),
        ([f"€ {n}.200" for n in UNIQUE], "number"),
    ],
)
def test_a_unit_is_a_param_of_the_input(values: Sequence[str], expected: Any) -> None:
    assert guess_column(column("weight", values), ROWS).input == expected


def test_values_beyond_the_first_ones_may_repeat() -> None:
    values = [*range(5_000), *range(4_000, 5_000)]
    assert not ColumnValues(column("id", values)).all_differ
    assert guess_column(column("id", values), len(values)).kind == "id"
    assert "nearly all" in guess_column(column("id", values), len(values)).reason


@pytest.mark.parametrize(
    ("other", "decimal", "largest"),
    [
        (["12,5", "0,25"], ",", "12500"),
        (["12.5", "0.25"], ".", "12.5"),
        (["12", "a"], ".", "12.5"),
    ],
)
def test_a_point_separates_thousands_beside_decimal_commas(
    other: list[str], decimal: str, largest: str
) -> None:
    columns = source(other=other * 100, a=["1.234", "12.500"] * 100).columns
    guess = guess_values(values_of(columns)["a"], ROWS)
    assert guess.kind == "number"
    assert guess.decimal == decimal
    assert f"to {largest}" in guess.reason


@pytest.mark.parametrize(
    ("name", "values", "expected"),
    [
        ("price_index", MANY, True),
        ("price", range(10), True),
        ("rooms", [1, 2, 3, 4, 1, 2, 3, 4, 1, 2], False),
        ("zipcode", MANY, False),
    ],
)
def test_many_numbers_are_amounts(name: str, values: Sequence[int], expected: bool) -> None:
    assert is_amount(ColumnValues(column(name, values))) == expected


@pytest.mark.parametrize(
    ("columns", "likely"),
    [
        ({"y": SECONDS, "a": MANY}, ["y"]),
        ({"x": UNIQUE, "y": SECONDS}, ["y"]),
        ({"y": SECONDS, "sale_price": MANY}, ["y", "sale_price"]),
        ({"class": ["first", "second"] * 100, "survived": [0, 1] * 100}, ["class", "survived"]),
        ({"x": MANY, "y": SECONDS, "z": MANY, "price": UNIQUE}, ["price"]),
        ({"y": [1] * ROWS, "a": MANY}, []),
        ({"y": range(ROWS), "a": MANY}, []),
        ({"y": [f"name {n}" for n in UNIQUE], "a": MANY}, []),
        ({"y": SECONDS, "Target": MANY, "price": UNIQUE}, ["Target"]),
        ({"outcome": [1] * ROWS, "label": ["a", "b"] * 100}, ["label"]),
        ({"outcome": [1] * ROWS, "a": MANY}, ["outcome"]),
        ({"price": MANY}, ["price"]),
        ({"price": MANY, "sales": MANY}, ["price", "sales"]),
    ],
)
def test_a_bare_name_is_no_target_beside_a_better_one(
    columns: dict[str, Sequence[Any]], likely: list[str]
) -> None:
    assert likely_targets(source(**columns), "target") == likely


def test_what_gives_the_target_away_is_said_without_rounding_up() -> None:
    target = [str(number) for number in UNIQUE]
    nearly = ["7" if position == 3 else text for position, text in enumerate(target)]
    assert names_leak(ComparedColumn(target), ComparedColumn(target)) == "a copy of the target"
    assert (
        names_leak(ComparedColumn(target), ComparedColumn(nearly))
        == "a copy of the target in 99.5% of the rows"
    )
    known = ComparedColumn(target, numbers(target, "."))
    assert (
        number_leak(known, ComparedColumn(nearly, numbers(nearly, ".")))
        == "a copy of the target in 99.5% of the rows"
    )
    order = [str(number**2) for number in UNIQUE]
    exchanged = [*order]
    first = UNIQUE.index(sorted(UNIQUE)[5])
    second = UNIQUE.index(sorted(UNIQUE)[6])
    exchanged[first] = order[second]
    exchanged[second] = order[first]
    assert (
        number_leak(known, ComparedColumn(order, numbers(order, ".")))
        == "its order is that of the target"
    )
    assert (
        number_leak(known, ComparedColumn(exchanged, numbers(exchanged, ".")))
        == "its order is nearly that of the target"
    )


@pytest.mark.parametrize(
    ("lengths", "limit"), [([4_000, 5_000], None), ([4_000, 9_000], 26_000), ([10**7, 0], 10**7)]
)
def test_long_rows_raise_the_limit_of_a_question(lengths: list[int], limit: int | None) -> None:
    facet = defaults("tabular_regression")
    rows = [{"a": "x" * length, "b": "y" * 4_000, "target": 1.0} for length in lengths]
    settings = {setting.path: setting.value for setting in facet.settings(facet.measure(rows, 2))}
    assert settings.get("serve.limits.characters") == limit
