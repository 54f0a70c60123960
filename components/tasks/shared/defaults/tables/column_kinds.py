"""Guess the kind of each column of a table from the values of its first rows."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Any, Literal

from components.fields.base import Reject
from components.fields.gram_counts import unspaced_share
from components.fields.moment import DateOrder, guess_order, parse_moment
from components.fields.number import (
    MISSING,
    DecimalSign,
    guess_decimal,
    parse_number,
    unit_of,
    without_unit,
)
from components.tasks.base import ColumnStats
from components.tasks.shared.defaults.tables.value_remarks import (
    equal_names,
    is_time_of_day,
    missing_number,
    mixed_percent,
    numbers_in_texts,
)

Kind = Literal["number", "category", "time", "text", "id", "constant", "picture", "empty"]
# Different values of a column that are read as numbers and dates.
_READ = 2_000
# Share of the rows whose values must be of a kind. The other rows are refused.
_MOST = 0.95
# Share of different values from which texts are ids, and the rows from which that is known.
_DIFFERENT = 0.8
_FEW_ROWS = 20
# Different numbers, whole ones and with fractions, up to which they may be names.
_FEW_NUMBERS = 20
_FEW_FRACTIONS = 5
# Characters of a category, on average, and words. Longer values are texts, if they differ.
_LONG_NAME = 50
_LONG_TEXT = 30
_WORDS_OF_A_TEXT = 5.0
_WORDS_OF_A_LONG_TEXT = 3.0
# Share of the rows that a column must have a value in, or lack one in, if it has only one value.
_SOME = 0.01
# Days of a spreadsheet and seconds since 1970 that are plausible dates: 1927 and 2001 to 2050.
_DAYS = (10_000.0, 55_153.0)
_SECONDS = (1e9, 2.53e9)
_SECOND_UNITS = (1.0, 1e3, 1e6, 1e9)
# Texts that begin with a year of four digits.
_YEAR_FIRST = re.compile(r"\s*\d{3,4}\D")
_DAY_FIRST = re.compile(r"\s*\d{1,2}\s*[-/.]\s*\d{1,2}\s*[-/.]")
_LEADING_ZERO = re.compile(r"0\d+")
# Whole numbers of so many digits are not exact as floats: they are codes.
_LONG_CODE = re.compile(r"\d{16,}")
_COMPACT_DATE = re.compile(r"(?:19|20)\d{6}(?:\.0)?")
_NAME_WORDS = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+|[^\W\d_a-zA-Z]+")
# Last words of the names of ids and codes, whose numbers are names.
_ID_WORDS = frozenset(
    (
        *("id", "uuid", "guid", "rowid", "rownum", "pid", "ssn", "code"),
        *("zip", "zipcode", "postcode", "postal", "plz", "phone", "telephone", "mobile"),
    )
)
_ID_ENDINGS = ("编号", "序号", "号码", "邮编", "手机号", "手机", "电话")
# Words after those: phone number.
_NUMBER_WORDS = frozenset(("number", "no", "nr", "num"))
# An index numbers the rows if its name says no more: a price index does not.
_INDEX_WORDS = frozenset(("index", "idx"))
_ROW_WORDS = frozenset(("row", "record", "line", "sample"))
# What follows numbers and is no unit: of ordinals, times of day and parts of dates.
_NO_UNITS = frozenset(("st", "nd", "rd", "th", "am", "pm", "AM", "PM", *"年月日号点"))
# Words of names whose numbers may be dates, and words that make amounts of them.
_DATE_WORDS = frozenset(("date", "datetime", "timestamp", "dob", "created", "updated"))
_DATE_ENDINGS = ("日期",)
_AMOUNT_WORDS = frozenset(
    (
        *("diff", "difference", "delta", "gap", "since", "elapsed", "duration", "age", "lag"),
        *("count", "number", "num", "days", "hours", "minutes", "seconds", "index", "score"),
    )
)


@dataclass(frozen=True)
class Guess:
    """The kind of a column.

    Args:
        kind: a kind of input, or why the column is none.
        reason: a few words for a person.
        decimal: decimal sign of numbers.
        order: of day, month and year in dates.
        unit: of all numbers; None: they have none.
    """

    kind: Kind
    reason: str
    decimal: DecimalSign = "."
    order: DateOrder = "ymd"
    unit: str | None = None

    @property
    def input(self) -> Any:
        """Return the input as params write it; None for a column that is none."""
        params: dict[str, Any] = {"kind": self.kind}
        if self.kind == "number" and self.decimal != ".":
            params["decimal"] = self.decimal
        if self.unit is not None:
            params["unit"] = self.unit
        if len(params) > 1:
            return params
        if self.kind == "time" and self.order != "ymd":
            return {"kind": "time", "order": self.order}
        if self.kind in ("number", "category", "time", "text"):
            return self.kind
        return None


class ColumnValues:
    """The values of a column, without words for missing ones.

    Args:
        column: of the source.
        decimal: sign of its numbers; None: the values show it.
    """

    def __init__(self, column: ColumnStats, decimal: DecimalSign | None = None) -> None:
        self.name = column.name
        self.column = column
        self._decimal = decimal

    @cached_property
    def counts(self) -> Mapping[str, int]:
        """Return the rows of each of the first different values."""
        present = (pair for pair in self.column.values.items() if not is_missing(pair[0]))
        return dict(islice(present, _READ))

    @cached_property
    def rows(self) -> int:
        """Return the rows that these values have."""
        return sum(self.counts.values())

    @cached_property
    def distinct(self) -> int:
        """Return the number of different short values, up to the limit of the source's sample."""
        return len(self.column.values)

    @property
    def count_text(self) -> str:
        """Return the number of different values for a person."""
        if self.column.overflow or self.column.long:
            return f"more than {self.distinct:,}"
        return f"{self.distinct:,}"

    @cached_property
    def all_differ(self) -> bool:
        """Return whether no value comes twice, among the first different ones of the source."""
        counts = [rows for text, rows in self.column.values.items() if not is_missing(text)]
        return bool(counts) and max(counts) == 1

    @cached_property
    def differ(self) -> float:
        """Return the share of different values in the rows that have a short one."""
        share = self.distinct / max(sum(self.column.values.values()), 1)
        if self.column.overflow:
            share = max(share, len(self.counts) / max(self.rows, 1))
        return share

    @cached_property
    def decimal(self) -> DecimalSign:
        """Return the decimal sign of the numbers."""
        return self._decimal or self.decimal_shown[0]

    @cached_property
    def decimal_shown(self) -> tuple[DecimalSign, int]:
        """Return the decimal sign of the numbers, and how many values show it."""
        return guess_decimal(self.counts)

    @cached_property
    def numbers(self) -> Mapping[str, float]:
        """Return the number of each value that is one."""
        return _parsed(self.counts, lambda text: number_of(text, self.decimal))

    @cached_property
    def order(self) -> tuple[DateOrder, int]:
        """Return the order of day, month and year, and how many values show it."""
        short = [text for text in self.counts if not _YEAR_FIRST.match(text)]
        if not any(map(_DAY_FIRST.match, short)):
            # Names of months need no order.
            return "ymd", len(self.counts)
        return guess_order(short)

    @cached_property
    def moments(self) -> Mapping[str, float]:
        """Return the moment of each value that is one, in seconds since 1970."""
        return _parsed(self.counts, lambda text: parse_moment(text, self.order[0]))

    def share(self, parsed: Iterable[str]) -> float:
        """Return the share of the rows that some of the values have."""
        return sum(self.counts[text] for text in parsed) / max(self.rows, 1)

    @cached_property
    def words(self) -> list[str]:
        """Return the words of the column's name, in lower case."""
        return [word.casefold() for word in _NAME_WORDS.findall(self.name)]

    @property
    def is_named_id(self) -> bool:
        """Return whether the column is named as an id or a code."""
        words = [word for word in self.words if not word.isdigit()]
        if words[-1:] and words[-1] in _NUMBER_WORDS:
            words = words[:-1]
        if not words or words[0] == "unnamed":
            # pandas writes the index of the rows without a name.
            return self.all_differ
        if words[-1] in _INDEX_WORDS:
            return self.all_differ and _ROW_WORDS.issuperset(words[:-1])
        return words[-1] in _ID_WORDS or self.name.endswith(_ID_ENDINGS)

    @property
    def is_named_date(self) -> bool:
        """Return whether the column is named as a date, and not as a number of days."""
        is_date = not _DATE_WORDS.isdisjoint(self.words) or self.name.endswith(_DATE_ENDINGS)
        return is_date and _AMOUNT_WORDS.isdisjoint(self.words)


def is_missing(text: str) -> bool:
    """Return whether a text stands for a missing value."""
    return text.strip().casefold() in MISSING


def number_of(text: str, decimal: DecimalSign) -> float | None:
    """Return the number of a text, or None for a word such as n/a.

    Raises:
        Reject: it is none.
    """
    if decimal == "." and text.isascii() and "_" not in text:
        with suppress(ValueError):
            number = float(text)
            if abs(number) < float("inf"):
                return number
    return parse_number(text, decimal)


def _parsed(texts: Iterable[str], parse: Callable[[str], float | None]) -> Mapping[str, float]:
    """Return the values of the texts that can be parsed."""
    values = {}
    for text in texts:
        with suppress(Reject):
            value = parse(text)
            if value is not None:
                values[text] = value
    return values


def guess_column(column: ColumnStats, rows: int) -> Guess:
    """Return the kind of a column alone, with the reason; see `guess_values`."""
    return guess_values(ColumnValues(column), rows)


def guess_values(values: ColumnValues, rows: int) -> Guess:
    """Return the kind of a column, with the reason.

    Args:
        values: of the column.
        rows: that were read of the source.
    """
    column = values.column
    if column.is_picture:
        return Guess("picture", "holds pictures, which are no input of tables")
    if not values.counts and not column.long:
        return Guess("empty", "is empty")
    if len(values.counts) == 1 and not column.long:
        return _of_one_value(values, rows)
    # A long text is neither a number nor a date.
    if column.long <= (1 - _MOST) * column.filled:
        guess = _time(values) or _number(values) or _number_with_unit(values)
        if guess is not None:
            return guess
    return _text(values)


def is_amount(values: ColumnValues) -> bool:
    """Return whether the values are numbers on a scale, not ids, codes or few names."""
    numbers = values.numbers
    if values.share(numbers) < _MOST or any(map(_LEADING_ZERO.fullmatch, numbers)):
        return False
    # In a small table few numbers are many.
    are_many = len(numbers) > values.rows / 2
    if not all(number.is_integer() for number in numbers.values()):
        return are_many or len(numbers) > _FEW_FRACTIONS
    if values.is_named_id and not values.all_differ:
        return False
    return are_many or len(numbers) > _FEW_NUMBERS


def _of_one_value(values: ColumnValues, rows: int) -> Guess:
    (value,) = values.counts
    missing = rows - values.rows
    if min(missing, values.rows) >= max(_SOME * rows, 1):
        return Guess("category", f"{value!r} or nothing")
    where = f"in all {rows:,} rows that were read"
    if missing:
        where = f"in the {values.rows:,} rows with a value, of {rows:,} that were read"
    return Guess("constant", f"is {value!r} {where}")


def _time(values: ColumnValues) -> Guess | None:
    """Return that a column holds dates; None where it does not."""
    # Numbers are dates only where their form says so, or both their size and their name.
    is_number = values.share(values.numbers) >= _MOST
    is_compact = all(map(_COMPACT_DATE.fullmatch, values.counts))
    if is_number and not is_compact and not _are_dates(values):
        return None
    if values.share(values.moments) < _MOST:
        return None
    order, shown = values.order
    reason = "dates, such as " + next(iter(values.moments))
    if not shown:
        reason += ", day before month: nothing tells which is which (order: mdy for month first)"
    elif order == "dmy":
        reason += ", day before month"
    elif order == "mdy":
        reason += ", month before day"
    return Guess("time", reason + _others(values, values.moments, "dates"), order=order)


def _are_dates(values: ColumnValues) -> bool:
    """Return whether numbers are days of a spreadsheet or Unix times of plausible years."""
    if not values.is_named_date:
        return False
    plausible = []
    for text, number in values.numbers.items():
        is_day = _DAYS[0] <= number <= _DAYS[1] and is_time_of_day(text, number)
        if is_day or any(_SECONDS[0] <= number / unit <= _SECONDS[1] for unit in _SECOND_UNITS):
            plausible.append(text)
    return values.share(plausible) >= _MOST


def _number(values: ColumnValues) -> Guess | None:
    """Return that a column holds numbers, ids or codes; None where it holds something else."""
    numbers = values.numbers
    if values.share(numbers) < _MOST:
        return None
    if any(map(_LEADING_ZERO.fullmatch, numbers)):
        example = next(filter(_LEADING_ZERO.fullmatch, numbers))
        return Guess("category", f"codes with leading zeros, such as {example}")
    least = min(numbers.values())
    most = max(numbers.values())
    span = f"{least:g} to {most:g}"
    is_whole = all(number.is_integer() for number in numbers.values())
    if is_whole and values.all_differ:
        if values.is_named_id:
            return Guess("id", f"an id: all values that were read differ, {span}")
        counts_rows = least in (0, 1) and most - least + 1 == len(numbers)
        if counts_rows and len(numbers) >= _FEW_ROWS:
            return Guess("id", f"numbers the rows: {span}")
    if is_whole and (values.is_named_id or any(map(_LONG_CODE.fullmatch, numbers))):
        if values.differ > _DIFFERENT:
            return Guess("id", f"an id: nearly all values differ, {span}")
        return Guess("category", f"ids or codes, {values.count_text} different ones")
    if len(values.counts) == _READ:
        span = f"about {span}"
    reason = f"numbers, {span}"
    if values.decimal == ",":
        reason += ", decimal comma"
    remarks = missing_number(values.counts, numbers) + mixed_percent(values.counts)
    remarks += _others(values, numbers, "numbers")
    return Guess("number", reason + remarks, decimal=values.decimal)


def _number_with_unit(values: ColumnValues) -> Guess | None:
    """Return that all values are numbers with one unit; None where they are not."""
    units = {unit_of(text) for text in values.counts}
    if len(units) > 1 or values.column.long:
        return None
    (unit,) = units
    if unit is None or unit in _NO_UNITS:
        return None
    bare = [without_unit(text, unit) for text in values.counts]
    decimal, _ = guess_decimal(bare)
    numbers = _parsed(bare, lambda text: number_of(text, decimal)).values()
    if len(numbers) < len(set(bare)):
        return None
    reason = f"numbers, {min(numbers):g} to {max(numbers):g}, all with the unit {unit!r}"
    if decimal == ",":
        reason += ", decimal comma"
    return Guess("number", reason, decimal=decimal, unit=unit)


def _others(values: ColumnValues, parsed: Mapping[str, float], kind: str) -> str:
    """Return a remark about the values that are not of the kind of the others."""
    others = [text for text in values.counts if text not in parsed]
    if not others:
        return ""
    rows = sum(values.counts[text] for text in others)
    return f"; {rows:,} rows are refused: {others[0]!r} and the like are no {kind}"


def _text(values: ColumnValues) -> Guess:
    """Return that a column holds categories, ids or texts."""
    column = values.column
    if 2 * column.long > column.filled:
        # Values too long to be counted are no names, and no ids.
        return Guess("text", f"texts of about {column.mean:,.0f} characters")
    differ = values.differ
    words = _mean_of(values, _words)
    is_sentence = words > _WORDS_OF_A_TEXT and _mean_of(values, _width) > _LONG_TEXT
    # Long values of a word or two are links or codes.
    is_long = column.mean > _LONG_NAME and words > _WORDS_OF_A_LONG_TEXT
    if (is_sentence or is_long) and differ > 1 / 2:
        reason = f"texts of about {words:,.0f} words, {values.count_text} different ones"
        return Guess("text", reason)
    if differ > _DIFFERENT:
        what = "an id" if values.is_named_id else "an id or a name"
        remark = numbers_in_texts(values.counts, values.numbers)
        return Guess("id", remark or f"{what}: nearly all values differ")
    reason = f"{values.count_text} names"
    remark = numbers_in_texts(values.counts, values.numbers) or equal_names(values.counts)
    return Guess("category", f"{reason}; {remark}" if remark else reason)


def _mean_of(values: ColumnValues, measure: Callable[[str], float]) -> float:
    """Return the mean of a measure of the short values."""
    total = sum(rows * measure(text) for text, rows in values.counts.items())
    return total / max(values.rows, 1)


def _words(text: str) -> float:
    """Return the number of words of a text, of which scripts without spaces have two letters."""
    return max(len(text.split()), unspaced_share([text]) * len(text) / 2)


def _width(text: str) -> float:
    """Return the characters of a text. Those of scripts without spaces count twice."""
    return len(text) * (1 + unspaced_share([text]))


def values_of(columns: Mapping[str, ColumnStats]) -> dict[str, ColumnValues]:
    """Return the values of columns, with one decimal sign where not all of them show theirs.

    12.500 alone may be a number of three decimals. Beside 12,5 the point separates thousands.
    """
    values = {name: ColumnValues(column) for name, column in columns.items()}
    signs = set()
    undecided = []
    for name, column in values.items():
        if column.share(column.numbers) < _MOST:
            continue
        if column.decimal_shown[1]:
            signs.add(column.decimal)
        elif any("." in text for text in column.counts):
            undecided.append(name)
    if signs == {","}:
        for name in undecided:
            values[name] = ColumnValues(columns[name], decimal=",")
    return values
