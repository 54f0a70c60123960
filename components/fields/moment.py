"""Define the field of dates and times, as tables of many origins write them."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from components.core import escaping
from components.fields.base import Change, Reject, Summary
from components.fields.number import MISSING, plain_digits

DateOrder = Literal["ymd", "dmy", "mdy"]
_DATE = re.compile(r"(\d{1,4})\s*([-/.年])\s*(\d{1,2})\s*(?:\2|月)\s*(\d{1,4})\s*日?")
_COMPACT = re.compile(r"(\d{4})(\d{2})(\d{2})")
# A month without a day, which is read as its first day.
_MONTH = re.compile(r"(\d{4})(?:[-/](\d{1,2})|年(\d{1,2})月)")
# Seconds have up to nine decimals, as nanoseconds do.
_CLOCK = re.compile(
    r"(上午|下午)?\s*"
    r"(\d{1,2})[:时h](\d{2})(?:[:分](\d{2})(?:[.,](\d{1,9}))?)?[分秒]?\s*(am|pm|上午|下午)?"
    r"\s*(z|utc|gmt|[+-]\d{2}(?::?\d{2})?)?"
)
_NAMED = re.compile(
    r"(?:(\d{1,2})[\s.-]+)?([a-z]{3,9})\.?[\s.-]+(?:(\d{1,2})(?:st|nd|rd|th)?,?\s+)?(\d{4})"
)
_MONTHS = {
    name: number
    for number, name in enumerate(
        ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"], 1
    )
}
# Day 1 of spreadsheets is 1900-01-01, and they count a 29 February 1900 that never was.
_SPREADSHEET = datetime(1899, 12, 30, tzinfo=UTC)
# Days of a spreadsheet that are taken for dates: 1927 to 2173.
_FIRST_DAY = 10_000.0
_LAST_DAY = 100_000.0
# Seconds since 1970: from 2001 to 2286. Milliseconds are a thousand times as many.
_SECONDS = (1e9, 1e10)
_LONGEST = 100
# Hours that a zone is from UTC, at most.
_FARTHEST = 14
# The years 1 to 9999 in seconds since 1970.
_RANGE = (-62_135_596_800.0, 253_402_300_799.0)


class Moment:
    """A moment in seconds since 1970 UTC, or None where a value is missing.

    Times without a zone are taken as UTC: only differences and parts of the day count.

    Args:
        required: whether a missing value is refused.
        order: of day, month and year in dates that do not begin with the year.
    """

    arrow = pa.float64()
    equality = "equal"
    knobs: Mapping[str, str] = {}

    def __init__(self, required: bool = False, order: DateOrder = "ymd") -> None:
        self.required = required
        self.order: DateOrder = order

    def normalize(self, value: Any) -> float | None:
        """Return the moment that a value states.

        Raises:
            Reject: the value is no date or time, or is missing where it is required.
        """
        moment = self._moment(value)
        if moment is None and self.required:
            raise Reject("missing")
        return moment

    def _moment(self, value: Any) -> float | None:
        if value is None:
            return None
        if isinstance(value, datetime):
            return _seconds(value)
        if isinstance(value, date):
            return _seconds(datetime.combine(value, time()))
        if isinstance(value, bool):
            raise Reject("not_a_date", str(value))
        if isinstance(value, int | float):
            return _of_number(float(value))
        if isinstance(value, str):
            return parse_moment(value, self.order)
        raise Reject("not_a_date", type(value).__name__)

    clean = normalize

    def changes(self, value: Any, cleaned: Any) -> Mapping[str, Change]:  # noqa: ARG002
        """Return no changes: a moment is used whole."""
        return {}

    def describe_change(self, change: str, summary: Summary) -> str:
        """Return the kind of change and its rows."""
        return f"{summary.rows_of_all('times')}: {change}"

    def keys(self, values: Sequence[Any]) -> list[str]:
        """Return each moment in seconds, or "" for a missing one."""
        return ["" if value is None else repr(float(value)) for value in values]

    def lsh_bands(self, values: Sequence[Any]) -> NDArray[np.uint64] | None:  # noqa: ARG002
        """Return None: moments have no near-duplicates."""
        return None

    def similarities(
        self, values: Sequence[Any], pairs: Sequence[tuple[int, int]]
    ) -> NDArray[np.float64]:
        """Return 1 where moments are equal, else 0."""
        return np.array([values[one] == values[other] for one, other in pairs], dtype=float)

    def profile(self, value: Any) -> Mapping[str, float | str]:
        """Return weekday and hour, or that the value is missing.

        Moment and month are no statistics: new data are always later than the training data.
        """
        if value is None:
            return {"missing": "yes"}
        moment = _at(value)
        return {
            "missing": "no",
            "weekday": str(moment.isoweekday()),
            "hour": f"{moment.hour:02d}",
        }

    def pieces(self, value: Any) -> Sequence[str]:  # noqa: ARG002
        """Return no parts: a moment has none."""
        return ()

    def vector(self, value: Any) -> NDArray[np.float32] | None:  # noqa: ARG002
        """Return None: a moment has no appearance."""
        return None

    def show(self, value: Any) -> str:
        """Return the moment for a person, without a time at midnight; HTML-safe."""
        if value is None:
            return "–"
        moment = _at(value)
        text = moment.isoformat(sep=" ", timespec="seconds").removesuffix("+00:00")
        return escaping.html(text.removesuffix(" 00:00:00"))


def _at(seconds: float) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)


def _seconds(moment: datetime) -> float:
    """Return a moment in seconds since 1970. Without a zone it is in UTC."""
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds()


def _of_number(value: float) -> float | None:
    """Return the moment of a number: a day of a spreadsheet, seconds or milliseconds since 1970.

    Raises:
        Reject: the number is none of them.
    """
    if math.isnan(value):
        return None
    if value.is_integer():
        compact = _COMPACT.fullmatch(f"{value:.0f}")
        if compact:
            with suppress(Reject):
                return _of_compact(compact, str(value))
    if _FIRST_DAY <= value <= _LAST_DAY:
        # Spreadsheets store milliseconds at most.
        return round((_SPREADSHEET + timedelta(days=value)).timestamp(), 3)
    for factor in (1.0, 1e3, 1e6, 1e9):
        if _SECONDS[0] <= abs(value) / factor < _SECONDS[1]:
            return value / factor
    raise Reject("not_a_date", f"{value:g}")


def _of_compact(match: re.Match[str], text: str) -> float:
    """Return the moment of a date such as 20261127.

    Raises:
        Reject: there is no such day.
    """
    year, month, day = match.groups()
    return _of_parts(int(year), int(month), int(day), text)


def parse_moment(text: str, order: DateOrder = "ymd") -> float | None:
    """Return the moment that a text states in seconds since 1970, or None for a word such as n/a.

    Args:
        text: such as 2026-11-27, 27/11/2026 14:05, Nov 27, 2026, 2026年11月27日.
        order: of dates that do not begin with a year of four digits.

    Raises:
        Reject: the text states no moment.
    """
    try:
        plain = plain_digits(text)
    except Reject:
        raise Reject("not_a_date", text[:_LONGEST]) from None
    if plain in MISSING:
        return None
    with suppress(ValueError, Reject):
        return _of_number(float(plain))
    month = _MONTH.fullmatch(plain)
    if month:
        return _of_parts(
            int(month[1]),
            int(month[2] or month[3]),
            1,
            text,
        )
    day, rest = _day_of(plain, order, text)
    rest = rest.strip().removeprefix("t").strip(" ,")
    if not rest:
        return day
    clock = _CLOCK.fullmatch(rest)
    if clock is None:
        raise Reject("not_a_date", text[:_LONGEST])
    return day + _seconds_of_day(clock, text)


def _day_of(plain: str, order: DateOrder, text: str) -> tuple[float, str]:
    """Return the day that a text begins with in seconds since 1970, and the rest of the text."""
    match = _DATE.match(plain)
    if match:
        first, _, second, third = match.groups()
        if len(first) >= 3:
            year, month, day = first, second, third
        elif order == "mdy":
            month, day, year = first, second, third
        elif order == "dmy":
            day, month, year = first, second, third
        else:
            year, month, day = first, second, third
        return _of_parts(
            _full_year(year),
            int(month),
            int(day),
            text,
        ), plain[match.end() :]
    match = _COMPACT.match(plain)
    if match:
        return _of_compact(match, text), plain[match.end() :]
    match = _NAMED.match(plain)
    if match and match.group(2)[:3] in _MONTHS:
        before, name, after, year = match.groups()
        return (
            _of_parts(
                int(year),
                _MONTHS[name[:3]],
                int(before or after or 1),
                text,
            ),
            plain[match.end() :],
        )
    raise Reject("not_a_date", text[:_LONGEST])


def _full_year(text: str) -> int:
    """Return a year. Of two digits, 00 to 68 are of this century (as in POSIX)."""
    year = int(text)
    if len(text) > 2:
        return year
    return year + (2000 if year < 69 else 1900)


def _of_parts(year: int, month: int, day: int, text: str) -> float:
    try:
        return _seconds(datetime(year, month, day, tzinfo=UTC))
    except ValueError:
        raise Reject("not_a_date", text[:_LONGEST]) from None


def _seconds_of_day(clock: re.Match[str], text: str) -> float:
    """Return the seconds since midnight UTC.

    Raises:
        Reject: there is no such time.
    """
    before, hours, minutes, seconds, fraction, after, zone = clock.groups()
    hour = _hour(int(hours), before, after)
    minute = int(minutes)
    second = int(seconds or 0) + float(f"0.{fraction or 0}")
    # ISO 8601 has 24:00 for the end of a day. A leap second ends an hour.
    ends_day = hour == 24 and not minute and not second
    ends_hour = minute == 59 and second < 61
    if hour is None or hour > 23 + ends_day or minute > 59 or second >= 60 + ends_hour:
        raise Reject("not_a_date", text[:_LONGEST])
    return hour * 3600.0 + minute * 60 + second - _offset(zone or "", text)


def _hour(hour: int, before: str | None, after: str | None) -> int | None:
    """Return the hour of a day, or None where the half of the day contradicts it.

    Args:
        hour: as it is written.
        before: the half of the day in front of the hour.
        after: the half of the day behind the minutes.
    """
    half = before or after
    if half is None:
        return hour
    if before and after:
        return None
    if half in ("pm", "下午"):
        # 14:05 pm says the same twice.
        return hour + 12 if 0 < hour < 12 else hour or None
    if hour > 12:
        return None
    return hour % 12


def _offset(zone: str, text: str) -> float:
    """Return how many seconds a zone such as +08:00 is ahead of UTC; 0 of other texts.

    Raises:
        Reject: no zone is so far from UTC.
    """
    if zone[:1] not in ("+", "-"):
        return 0.0
    hours = int(zone[1:3])
    minutes = int(zone[3:].removeprefix(":") or 0)
    if hours + minutes / 60 > _FARTHEST or minutes > 59:
        raise Reject("not_a_date", text[:_LONGEST])
    seconds = hours * 3600.0 + minutes * 60
    return -seconds if zone[0] == "-" else seconds


def guess_order(texts: Iterable[str]) -> tuple[DateOrder, int]:
    """Return the order of day, month and year in a column, and how many of its texts show it.

    A first part above 12 can only be a day, a second one above 12 too. Where nothing shows it,
    dates that do not begin with the year are taken as day, month, year.
    """
    days_first = 0
    months_first = 0
    years_first = 0
    for text in texts:
        match = _DATE.match(unicodedata.normalize("NFKC", text).strip().lower())
        if not match:
            continue
        first, _, second, _ = match.groups()
        if len(first) >= 3:
            years_first += 1
        elif int(first) > 12:
            days_first += 1
        elif int(second) > 12:
            months_first += 1
    if years_first > max(days_first, months_first):
        return "ymd", years_first
    if months_first > days_first:
        return "mdy", months_first
    return "dmy", days_first


class MomentText(Moment):
    """A moment as a text such as "2026-11-27 10:30:00", or None where a value is missing.

    A number could be read as the day of a spreadsheet, a text only in one way.
    """

    arrow = pa.string()

    def normalize(self, value: Any) -> str | None:  # type: ignore[override]
        """Return the moment that a value states, without a time at midnight.

        Raises:
            Reject: the value is no date or time, or is missing where it is required.
        """
        return moment_text(super().normalize(value))

    clean = normalize  # type: ignore[assignment]

    def keys(self, values: Sequence[Any]) -> list[str]:
        """Return the texts, or "" for a missing one."""
        return ["" if value is None else str(value) for value in values]

    def profile(self, value: Any) -> Mapping[str, float | str]:
        """Return weekday and hour, or that the value is missing."""
        return super().profile(None if value is None else parse_moment(value))

    def show(self, value: Any) -> str:
        """Return the text for a person; HTML-safe."""
        return "–" if value is None else escaping.html(str(value))


def moment_text(moment: float | None) -> str | None:
    """Return a moment as a text that `parse_moment` reads, to the microsecond.

    Args:
        moment: in seconds since 1970.
    """
    if moment is None:
        return None
    seconds = min(max(moment, _RANGE[0]), _RANGE[1])
    text = str(np.datetime64(round(seconds * 1e6), "us")).replace("T", " ")
    return text.removesuffix(".000000").removesuffix(" 00:00:00")
