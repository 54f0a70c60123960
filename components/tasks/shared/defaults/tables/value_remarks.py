"""Notice in the values of a column what their kind does not tell, for a person who reads it."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping

# Numbers that stand for a missing value in many tables.
_NINES = [float("9" * digits) for digits in range(1, 7)]
_SENTINELS = frozenset((-1.0, *_NINES, *(-number for number in _NINES)))
# Share of the rows from which such a number is frequent, and its distance from all others as a
# share of their range.
_FREQUENT = 0.01
_DISTANT = 0.5
_FEW = 3
# Share of the rows with numbers, or with numbers before a unit, from which that is told.
_MANY = 0.5
_NEARLY_ALL = 0.95
_WITH_UNIT = re.compile(r"[-+]?\d[\d.,]*\s*([^\W\d_]{1,6}[²³]?|°[CF]?)", re.UNICODE)
_CLOCK = re.compile(r"\d{1,3}:\d{2}(?::\d{2}(?:[.,]\d+)?)?")
_MINUTES = 24 * 60
_SECONDS = 24 * 60 * 60
# Decimals that a time of day with seconds has in days, at least.
_DECIMALS = 5


def missing_number(counts: Mapping[str, int], numbers: Mapping[str, float]) -> str:
    """Return a remark about a number such as -999 that may stand for a missing value, or "".

    Args:
        counts: value -> rows.
        numbers: value -> its number.
    """
    if len(numbers) <= _FEW:
        return ""
    ordered = sorted(set(numbers.values()))
    if len(ordered) <= _FEW:
        return ""
    remarks = ""
    for number, others in ((ordered[0], ordered[1:]), (ordered[-1], ordered[:-1])):
        distance = min(abs(number - others[0]), abs(number - others[-1]))
        span = others[-1] - others[0]
        rows = sum(counts[text] for text, value in numbers.items() if value == number)
        is_frequent = rows >= max(_FREQUENT * sum(counts.values()), 2)
        if number in _SENTINELS and is_frequent and distance > _DISTANT * span:
            remarks += f"; {number:g} in {rows:,} rows may mean a missing value"
    return remarks


def mixed_percent(counts: Mapping[str, int]) -> str:
    """Return a remark about numbers with and without a percent sign in one column, or "".

    Args:
        counts: value -> rows.
    """
    percents = [text for text in counts if text.strip().endswith(("%", "％"))]
    if not percents or len(percents) == len(counts):
        return ""
    rows = sum(counts[text] for text in percents)
    return f"; {rows:,} rows have a percent sign and are read as hundredths"


def equal_names(counts: Mapping[str, int]) -> str:
    """Return a remark about names that differ in capitals or spaces alone, or "".

    Args:
        counts: name -> rows.
    """
    spellings: dict[str, list[str]] = defaultdict(list)
    for name in counts:
        spellings["".join(name.casefold().split())].append(name)
    for names in spellings.values():
        if len(names) > 1:
            return f"{names[0]!r} and {names[1]!r} count as different ones"
    return ""


def numbers_in_texts(counts: Mapping[str, int], numbers: Mapping[str, float]) -> str:
    """Return a remark about texts that a person would read as numbers or times, or "".

    Args:
        counts: value -> rows.
        numbers: value -> its number, for those that are one.
    """
    rows = sum(counts.values())
    share = sum(counts[text] for text in numbers) / max(rows, 1)
    other = next((text for text in counts if text not in numbers), "")
    if share >= _MANY and other:
        return f"numbers in {share:.0%} of the rows, {other!r} and the like in the others"
    clocks = sum(count for text, count in counts.items() if _CLOCK.fullmatch(text))
    if clocks >= _NEARLY_ALL * rows:
        return "times without a date, which are no input of tables yet"
    units: dict[str, int] = defaultdict(int)
    for text, count in counts.items():
        match = _WITH_UNIT.fullmatch(text)
        if match:
            units[match[1]] += count
    unit = max(units, key=lambda name: units[name], default="")
    if unit and units[unit] >= _NEARLY_ALL * rows:
        return f"with the unit {unit!r} they are no numbers"
    return ""


def is_time_of_day(text: str, days: float) -> bool:
    """Return whether the fraction of a number of days is none, or a time in whole seconds.

    Args:
        text: the number as it is written.
        days: the number.
    """
    fraction = days % 1
    if not fraction:
        return True
    minutes = fraction * _MINUTES
    if abs(minutes - round(minutes)) < 0.02:
        return True
    seconds = fraction * _SECONDS
    decimals = len(text.partition(".")[2])
    return decimals >= _DECIMALS and abs(seconds - round(seconds)) < 0.1
