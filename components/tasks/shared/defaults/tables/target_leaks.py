"""Find columns of a table that give the target away."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from components.fields.base import Reject
from components.fields.number import DecimalSign
from components.tasks.shared.defaults.tables.column_kinds import is_missing, number_of

# Fewer rows prove nothing.
_LEAST_ROWS = 30
# Share of the rows in which a copy has the value of the target.
_COPY = 0.98
# Rank correlation of a column that orders the target, and the share of different values from
# which it counts: columns of few values tie too often.
_ORDERS = 0.9999
_ROUNDING = 1e-12
_DIFFERENT = 0.5
# Share of the target's variance, or of the rows, that a column may leave unexplained.
_UNEXPLAINED = 1e-6
_WRONG = 0.001
# Rows of each value, on average, from which a column may determine the target.
_ROWS_OF_A_VALUE = 2
# Where nearly all rows have one target, any column determines it.
_ONE_TARGET = 0.96


def texts_of(values: Sequence[Any]) -> list[str]:
    """Return values as texts without surrounding spaces; "" for a missing one."""
    texts = []
    for value in values:
        text = "" if value is None else str(value).strip()
        texts.append("" if is_missing(text) else text)
    return texts


def numbers_of(texts: Sequence[str], decimal: DecimalSign) -> NDArray[np.float64]:
    """Return (n,) the numbers of some texts, NaN where a text is none."""
    numbers = np.full(len(texts), np.nan)
    for position, text in enumerate(texts):
        with suppress(Reject):
            number = number_of(text, decimal) if text else None
            if number is not None:
                numbers[position] = number
    return numbers


@dataclass(frozen=True)
class ComparedColumn:
    """The first values of a column.

    Args:
        texts: (n,) its values as texts; "" for a missing one.
        numbers: (n,) its values with NaN for missing ones; None: it holds names.
    """

    texts: Sequence[str]
    numbers: NDArray[np.float64] | None = None


def number_leak(target: ComparedColumn, column: ComparedColumn) -> str | None:
    """Return how a column gives a number away, in a few words; None where it does not."""
    assert target.numbers is not None
    present = ~np.isnan(target.numbers)
    if column.numbers is None:
        present &= np.array([bool(text) for text in column.texts], bool)
        values = np.array(column.texts, object)[present]
    else:
        present &= ~np.isnan(column.numbers)
        values = column.numbers[present]
    known = target.numbers[present]
    if len(known) < _LEAST_ROWS or len(np.unique(known)) < 2:
        return None
    if column.numbers is not None:
        copied = np.isclose(known, values, rtol=1e-6, atol=0).mean()
        if copied >= _COPY:
            return _in_rows("a copy of the target", copied)
        correlation = _rank_correlation(known, values)
        if correlation >= 1 - _ROUNDING:
            return "its order is that of the target"
        if correlation >= _ORDERS:
            return "its order is nearly that of the target"
    return _determined(known, np.unique(values, return_inverse=True)[1])


def names_leak(target: ComparedColumn, column: ComparedColumn) -> str | None:
    """Return how a column gives a name away, in a few words; None where it does not."""
    pairs = Counter[tuple[str, str]]()
    values = Counter[str]()
    targets = Counter[str]()
    for text, name in zip(column.texts, target.texts, strict=True):
        if text and name:
            pairs[text, name] += 1
            values[text] += 1
            targets[name] += 1
    rows = targets.total()
    if rows < max(_LEAST_ROWS, len(target.texts) / 2) or len(targets) < 2:
        return None
    copied = sum(count for (text, name), count in pairs.items() if text == name)
    if copied >= _COPY * rows:
        return _in_rows("a copy of the target", copied / rows)
    if max(targets.values()) > _ONE_TARGET * rows or len(values) * _ROWS_OF_A_VALUE > rows:
        return None
    most: dict[str, int] = {}
    for (text, _), count in pairs.items():
        most[text] = max(most.get(text, 0), count)
    determined = sum(most.values())
    if determined >= (1 - _WRONG) * rows:
        return _in_rows("each of its values has one target", determined / rows)
    return None


def _in_rows(what: str, share: float) -> str:
    """Return what holds, with the share of the rows where it is not all of them."""
    # Rounded down, so that nearly all are not called all.
    return what if share == 1 else f"{what} in {math.floor(share * 1000) / 10:g}% of the rows"


def _rank_correlation(target: NDArray[np.float64], values: NDArray[np.float64]) -> float:
    """Return how far the order of a column is that of the target or its reverse, from 0 to 1."""
    least = _DIFFERENT * len(target)
    if len(np.unique(values)) < least or len(np.unique(target)) < least:
        return 0.0
    from scipy.stats import rankdata

    # scipy's spearmanr computes a p-value too, which takes most of its time.
    return float(abs(np.corrcoef(rankdata(target), rankdata(values))[0, 1]))


def _determined(target: NDArray[np.float64], codes: NDArray[np.int64]) -> str | None:
    """Return that each value of a column has one target; None where that is not so.

    Args:
        target: (n,) numbers.
        codes: (n,) number of the column's value.
    """
    counts = np.bincount(codes)
    is_constant = len(counts) < 2 or len(np.unique(target)) < 2
    if is_constant or len(counts) * _ROWS_OF_A_VALUE > len(target):
        return None
    means = np.bincount(codes, weights=target) / counts
    rest = target - means[codes]
    if np.square(rest).sum() > _UNEXPLAINED * np.square(target - target.mean()).sum():
        return None
    exact = np.isclose(rest, 0, atol=1e-9 * np.abs(target).max()).mean()
    return _in_rows("each of its values has one target", exact)


def leaking_columns(
    rows: Mapping[str, Sequence[Any]],
    target: str,
    candidates: Mapping[str, DecimalSign | None],
    leak: Callable[[ComparedColumn, ComparedColumn], str | None],
    decimal: DecimalSign | None = None,
) -> dict[str, str]:
    """Return the columns that give the target away, and how.

    Args:
        rows: column -> (n,) values.
        target: the column to predict.
        candidates: the columns to compare; the decimal sign of those that hold numbers.
        leak: compares the target with a column.
        decimal: decimal sign of the target; None: it holds names.
    """
    leaking = {}
    predicted = _compared(rows[target], decimal)
    for name, sign in candidates.items():
        message = leak(predicted, _compared(rows[name], sign))
        if message is not None:
            leaking[name] = message
    return leaking


def _compared(values: Sequence[Any], decimal: DecimalSign | None) -> ComparedColumn:
    """Return a column of texts, or of numbers where it has a decimal sign."""
    texts = texts_of(values)
    if decimal is None:
        return ComparedColumn(texts)
    return ComparedColumn(texts, numbers_of(texts, decimal))
