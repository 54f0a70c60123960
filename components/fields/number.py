"""Define the field of numbers, as tables of many origins write them."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from components.core import escaping
from components.fields.base import Change, Reject, Summary

DecimalSign = Literal[".", ","]
# Words for a value that is not there, in lower case.
MISSING = frozenset(
    (
        "",
        "na",
        "n/a",
        "n.a.",
        "#n/a",
        "nan",
        "nil",
        "none",
        "null",
        "#null!",
        "-",
        "--",
        "—",
        "?",
        ".",
        "missing",
        "unknown",
        "not available",
        "not applicable",
        "undefined",
        "无",
        "空",
        "缺失",
        "未知",
        "不详",
        "暂无",
        "暂无数据",
    )
)
# Signs and codes of currencies, before or after a number.
_CURRENCY = re.compile(
    r"^(?:[a-z]{0,3}[$€£¥₹₩₽₺₫฿₪]|usd|eur|gbp|cny|rmb|jpy|chf)\s*"
    r"|\s*(?:[$€£¥₹₩₽₺₫฿₪元]|usd|eur|gbp|cny|rmb|jpy|chf)$"
)
_MINUS = str.maketrans({"−": "-", "–": "-", "﹣": "-"})
# Spaces and apostrophes between groups of three digits.
_GAP = re.compile(r"(?<=\d)[\s'’](?=\d{3}(?!\d))")
_PLAIN = re.compile(r"(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?")
# 1,234,567 and 12,34,567.
_GROUPED = {
    ",": re.compile(r"[+-]?\d{1,3}(?:,\d{2,3})*,\d{3}(?:\.\d*)?"),
    ".": re.compile(r"[+-]?\d{1,3}(?:\.\d{2,3})*\.\d{3}(?:,\d*)?"),
}
# A number with a unit. Signs of currencies and multipliers belong to the number.
_WITH_UNIT = re.compile(r"[-+−–]?\d[\d.,\s'’]*((?![eE]\d)[^\W\d_][^\d\s]{0,9}|°[CF]?)")
_MULTIPLIERS = {"%": 0.01, "‰": 0.001, "万": 1e4, "亿": 1e8}
# A comma that can only be a decimal sign, and a point that can only be one.
_DECIMAL_COMMA = re.compile(r"[+-]?(?:\d+,(?:\d{1,2}|\d{4,})|0,\d+|\d{1,3}(?:\.\d{3})+,\d+)")
_DECIMAL_POINT = re.compile(r"[+-]?(?:\d+\.(?:\d{1,2}|\d{4,})|0\.\d+|\d{1,3}(?:,\d{3})+\.\d+)")
_LONGEST = 100


class Number:
    """A finite number, or None where a value is missing.

    Args:
        required: whether a missing value is refused.
        decimal: the decimal sign of texts. The other of point and comma separates thousands.
        unit: that texts may have after the number; None: none.
    """

    arrow = pa.float64()
    equality = "equal"
    knobs: Mapping[str, str] = {}

    def __init__(
        self, required: bool = False, decimal: DecimalSign = ".", unit: str | None = None
    ) -> None:
        self.required = required
        self.decimal: DecimalSign = decimal
        self.unit = unit

    def normalize(self, value: Any) -> float | None:
        """Return the number that a value states.

        Raises:
            Reject: the value is no number, has another unit, is infinite, or is missing where it
                is required.
        """
        number = self._number(value)
        if number is None and self.required:
            raise Reject("missing")
        if number is not None and not math.isfinite(number):
            raise Reject("not_finite", str(value)[:_LONGEST])
        return number

    def _number(self, value: Any) -> float | None:
        if value is None:
            return None
        if isinstance(value, bool | int | float | Decimal):
            try:
                number = float(value)
            except OverflowError:
                raise Reject("not_finite", "a number of too many digits") from None
            return None if math.isnan(number) else number
        if isinstance(value, str):
            if self.unit is None:
                return parse_number(value, self.decimal)
            return self._in_unit(value, self.unit)
        raise Reject("not_a_number", type(value).__name__)

    def _in_unit(self, text: str, unit: str) -> float | None:
        """Return the number of a text that has the unit, or none.

        Raises:
            Reject: it has another unit, or is no number.
        """
        if unit_of(text) in (None, unit):
            return parse_number(without_unit(text, unit), self.decimal)
        raise Reject("other_unit", f"{text[:_LONGEST]!r} is not in {unit}")

    clean = normalize

    def changes(self, value: Any, cleaned: Any) -> Mapping[str, Change]:  # noqa: ARG002
        """Return no changes: a number is used whole."""
        return {}

    def describe_change(self, change: str, summary: Summary) -> str:
        """Return the kind of change and its rows."""
        return f"{summary.rows_of_all('numbers')}: {change}"

    def keys(self, values: Sequence[Any]) -> list[str]:
        """Return the shortest text that states each number, or "" for a missing one."""
        return ["" if value is None else repr(float(value) + 0.0) for value in values]

    def lsh_bands(self, values: Sequence[Any]) -> NDArray[np.uint64] | None:  # noqa: ARG002
        """Return None: numbers have no near-duplicates."""
        return None

    def similarities(
        self, values: Sequence[Any], pairs: Sequence[tuple[int, int]]
    ) -> NDArray[np.float64]:
        """Return 1 where numbers are equal, else 0."""
        return np.array([values[one] == values[other] for one, other in pairs], dtype=float)

    def profile(self, value: Any) -> Mapping[str, float | str]:
        """Return the number, or whether it is missing."""
        if value is None:
            return {"missing": "yes"}
        return {"missing": "no", "number": float(value)}

    def pieces(self, value: Any) -> Sequence[str]:  # noqa: ARG002
        """Return no parts: a number has none."""
        return ()

    def vector(self, value: Any) -> NDArray[np.float32] | None:  # noqa: ARG002
        """Return None: a number has no appearance."""
        return None

    def show(self, value: Any) -> str:
        """Return the number for a person; HTML-safe."""
        return "–" if value is None else escaping.html(f"{value:,.6g}")


def parse_number(text: str, decimal: DecimalSign = ".") -> float | None:
    """Return the number that a text states, or None for a word such as n/a.

    Thousands separators, signs of currencies, percent signs (12% is 0.12), numbers in parentheses
    for negative ones, and 万 and 亿 are understood.

    Args:
        text: of a table.
        decimal: the decimal sign.

    Raises:
        Reject: the text states no number, or has raised or circled digits.
    """
    plain = plain_digits(text).translate(_MINUS)
    if plain in MISSING:
        return None
    sign = 1.0
    if plain.startswith("(") and plain.endswith(")"):
        sign = -1.0
        plain = plain[1:-1].strip()
    if plain[:1] in ("-", "+"):
        sign *= -1.0 if plain[0] == "-" else 1.0
        plain = plain[1:].strip()
    plain, factor = _without_unit(_CURRENCY.sub("", plain))
    plain = _with_point(_GAP.sub("", plain), decimal)
    if not _PLAIN.fullmatch(plain):
        raise Reject("not_a_number", text[:_LONGEST])
    return sign * factor * float(plain)


def unit_of(text: str) -> str | None:
    """Return the unit after the number that a text begins with; None where there is no unit."""
    match = _WITH_UNIT.fullmatch(text.strip())
    return match[1] if match else None


def without_unit(text: str, unit: str) -> str:
    """Return a text without the unit at its end; the whole text where it has none.

    Args:
        text: of a table.
        unit: as it is written, such as kg or kW: capitals count.
    """
    return text.strip().removesuffix(unit).rstrip() if unit_of(text) == unit else text


def plain_digits(text: str) -> str:
    """Return a text in lower case and in Unicode's compatibility form, as digits are read in it.

    Raises:
        Reject: it has raised, circled or fraction digits, of which the form makes other numbers:
            5² is no 52.
    """
    if any(unicodedata.category(character) == "No" for character in text):
        raise Reject("not_a_number", text[:_LONGEST])
    return unicodedata.normalize("NFKC", text).strip().lower()


def _without_unit(text: str) -> tuple[str, float]:
    """Return a text without its multiplier at the end, and the factor that it stands for."""
    factor = _MULTIPLIERS.get(text[-1:])
    if factor is None:
        return text, 1.0
    return text[:-1].strip(), factor


def _with_point(text: str, decimal: DecimalSign) -> str:
    """Return a number with a point as decimal sign and no thousands separators.

    A text that has the separators at other places stays as it is, so that it is refused.
    """
    separator = "," if decimal == "." else "."
    if separator in text:
        if not _GROUPED[separator].fullmatch(text):
            # Neither groups of thousands nor the decimal sign that was stated.
            return text if separator == "," else text.replace(".", "_")
        text = text.replace(separator, "")
    return text.replace(",", ".")


def guess_decimal(texts: Iterable[str]) -> tuple[DecimalSign, int]:
    """Return the decimal sign that the texts of a column have, and how many of them show it.

    1.234 and 1,234 show nothing, because both may be a thousand. Where nothing shows it, the sign
    is a point.
    """
    commas = 0
    points = 0
    for text in texts:
        try:
            plain = plain_digits(text).translate(_MINUS)
        except Reject:
            continue
        plain, _ = _without_unit(_CURRENCY.sub("", plain))
        commas += bool(_DECIMAL_COMMA.fullmatch(plain))
        points += bool(_DECIMAL_POINT.fullmatch(plain))
    if commas > points:
        return ",", commas
    return ".", points
