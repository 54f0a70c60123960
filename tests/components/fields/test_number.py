"""Numbers as people write them in tables."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.fields.base import Reject
from components.fields.number import Number, guess_decimal, parse_number, unit_of

FORMS = {
    "1234": 1234.0,
    "1,234.5": 1234.5,
    "12,34,567.8": 1234567.8,
    "1 234 567.5": 1234567.5,
    "1\u202f234": 1234.0,
    "1'234.5": 1234.5,
    "$1,200": 1200.0,
    "US$ 5": 5.0,
    "€ 3.50": 3.5,
    "3.50 €": 3.5,
    "-$3.20": -3.2,
    "CNY 12": 12.0,
    "5元": 5.0,
    "12%": 0.12,
    "5‰": 0.005,
    "3.2万": 32000.0,
    "1.5亿": 1.5e8,
    "(1,234)": -1234.0,
    "−5": -5.0,
    "+7": 7.0,
    "1e5": 1e5,
    ".5": 0.5,
    "5.": 5.0,
    "１２．５": 12.5,
}


@pytest.mark.parametrize("text", FORMS)
def test_a_number_is_read_however_it_is_written(text: str) -> None:
    assert parse_number(text) == pytest.approx(FORMS[text])


@pytest.mark.parametrize("text", ["1.234,5", "1 234,5", "1234,5", "1.234,50 €"])
def test_a_decimal_comma_is_read_where_it_is_stated(text: str) -> None:
    assert parse_number(text, ",") == 1234.5


@pytest.mark.parametrize(
    "text",
    [
        "1,5",
        "12,3456",
        "abc",
        "1.2.3",
        "inf",
        "0x10",
        "1_000",
        "1,2345",
        "1 2",
        "--5",
        "%",
        "5²",
        "①",
        "1½",
    ],
)
def test_what_is_no_number_is_refused(text: str) -> None:
    with pytest.raises(Reject, match="not_a_number"):
        parse_number(text)


@pytest.mark.parametrize("text", ["1.5", "1.23", "1,000.5"])
def test_a_point_is_no_decimal_sign_where_a_comma_is(text: str) -> None:
    with pytest.raises(Reject, match="not_a_number"):
        parse_number(text, ",")


@pytest.mark.parametrize("value", [None, "", " ", "n/a", "NaN", "NULL", "-", "无", float("nan")])
def test_a_missing_value_is_none_or_refused(value: Any) -> None:
    assert Number().normalize(value) is None
    with pytest.raises(Reject, match="missing"):
        Number(required=True).normalize(value)


@pytest.mark.parametrize("value", [float("inf"), "1e999", Decimal("Infinity")])
def test_an_infinite_number_is_refused(value: Any) -> None:
    with pytest.raises(Reject, match="not_finite"):
        Number().normalize(value)


def test_other_types_are_numbers_or_refused() -> None:
    assert Number().normalize(True) == 1.0
    assert Number().normalize(Decimal("1.50")) == 1.5
    with pytest.raises(Reject, match="not_a_number"):
        Number().normalize(b"1")


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_each_float_is_read_as_itself(value: float) -> None:
    assert parse_number(repr(value)) == value
    assert Number().normalize(Number().normalize(value)) == value


def test_equal_numbers_have_one_key() -> None:
    number = Number()
    values = [number.normalize("1,000"), 1000, -0.0, 0.0, None]
    assert number.keys(values) == ["1000.0", "1000.0", "0.0", "0.0", ""]


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["1,5", "2,25", "1.000,5"], (",", 3)),
        (["1,000", "2.5", "3.75"], (".", 2)),
        (["1,234", "5,678"], (".", 0)),
        (["12", "abc", "", "5²,5"], (".", 0)),
        (["1,5", "1.5", "2,5"], (",", 2)),
    ],
)
def test_the_decimal_sign_is_guessed_from_what_shows_it(
    texts: list[str], expected: tuple[str, int]
) -> None:
    assert guess_decimal(texts) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [("45 kg", 45.0), ("45kg", 45.0), (" -1,200.5 kg ", -1200.5), (45, 45.0), ("45", 45.0)],
)
def test_a_unit_may_follow_a_number(value: Any, expected: float) -> None:
    assert Number(unit="kg").normalize(value) == expected
    assert Number(unit="kg").normalize("n/a") is None


@pytest.mark.parametrize(
    ("value", "reason", "detail"),
    [
        ("45 lb", "other_unit", "'45 lb' is not in kg"),
        ("45 KG", "other_unit", "'45 KG' is not in kg"),
        ("45 元", "other_unit", "'45 元' is not in kg"),
        ("kg", "not_a_number", "kg"),
        ("4.5.6 kg", "not_a_number", "4.5.6"),
    ],
)
def test_another_unit_is_refused(value: str, reason: str, detail: str) -> None:
    with pytest.raises(Reject) as error:
        Number(unit="kg").normalize(value)
    assert (error.value.reason, error.value.detail) == (reason, detail)


@pytest.mark.parametrize(
    ("text", "unit"),
    [
        ("3,5 m²", "m²"),
        ("1 200 km/h", "km/h"),
        ("20 °C", "°C"),
        ("30 mg/dL", "mg/dL"),
        ("1e5", None),
        ("12%", None),
        ("5 ft 3 in", None),
        ("1" + " " * 100_000 + "!", None),
    ],
)
def test_the_unit_of_a_text(text: str, unit: str | None) -> None:
    assert unit_of(text) == unit
