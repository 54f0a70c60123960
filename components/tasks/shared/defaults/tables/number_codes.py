"""Tell whole numbers that are codes, such as flight numbers, from amounts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from components.fields.number import DecimalSign
from components.tasks.shared.defaults.tables.column_kinds import ColumnValues, Guess
from components.tasks.shared.defaults.tables.near_leaks import is_clock
from components.tasks.shared.defaults.tables.target_leaks import numbers_of, texts_of

Floats = NDArray[np.float64]
# Different numbers that codes have at least, and rows of each on average.
_LEAST_CODES = 50
_ROWS_OF_A_CODE = 3
# Share of neighboring numbers whose rows differ by more than two standard deviations of chance.
_UNEVEN = 0.3
_DEVIATIONS = 2.0
# Share of rows with a multiple of five, of which chance makes a fifth. Rounded amounts have more.
_ROUNDED = 0.3
# Rank correlation with the target or another column of numbers from which numbers have an order.
_ORDERS = 0.5
_LEAST_ROWS = 50
# Classes whose order is looked at: the most frequent ones.
_MOST_CLASSES = 10


def code_guesses(
    rows: Mapping[str, Sequence[Any]],
    target: str,
    values: Mapping[str, ColumnValues],
    guesses: Mapping[str, Guess],
    decimal: DecimalSign | None,
) -> dict[str, Guess]:
    """Return the columns of numbers that are codes, as categories.

    Args:
        rows: column -> (n,) values of the first rows.
        target: the column to predict.
        values: of each column.
        guesses: kinds of the other columns.
        decimal: of the target; None: it holds names.
    """
    candidates = []
    for name, guess in guesses.items():
        if guess.kind == "number" and is_unevenly_used(_rows_of_numbers(values[name])):
            candidates.append(name)
    if not candidates:
        return {}
    numbers = {}
    for name, guess in guesses.items():
        if guess.kind == "number":
            numbers[name] = numbers_of(texts_of(rows[name]), guess.decimal)
    targets = _targets(texts_of(rows[target]), decimal)
    codes = {}
    for name in candidates:
        others = [column for other, column in numbers.items() if other != name]
        if not has_order(numbers[name], [*targets.T, *others]):
            reason = f"codes, {values[name].count_text} different ones without an order"
            codes[name] = Guess("category", reason)
    return codes


def _rows_of_numbers(values: ColumnValues) -> Mapping[float, int]:
    """Return the rows of each number of a column."""
    rows = Counter[float]()
    for text, number in values.numbers.items():
        rows[number] += values.counts[text]
    return rows


def _targets(texts: Sequence[str], decimal: DecimalSign | None) -> Floats:
    """Return (n, k) the number of each row, or whether it has each of k classes."""
    if decimal is not None:
        return numbers_of(texts, decimal)[:, None]
    classes = [name for name, _ in Counter(texts).most_common(_MOST_CLASSES)]
    return np.array([[float(text == name) for name in classes] for text in texts])


def is_unevenly_used(counts: Mapping[float, int]) -> bool:
    """Return whether whole numbers skip values and are used unevenly, as codes are.

    Neighboring amounts have about as many rows. Those of neighboring codes are unrelated.

    Args:
        counts: number -> rows.
    """
    numbers = np.array(sorted(counts))
    rows = np.array([counts[number] for number in numbers.tolist()], dtype=float)
    if len(numbers) < _LEAST_CODES or rows.mean() < _ROWS_OF_A_CODE:
        return False
    if (numbers % 1 != 0).any() or is_clock(numbers) or np.ptp(numbers) + 1 == len(numbers):
        return False
    if rows[numbers % 5 == 0].sum() > _ROUNDED * rows.sum():
        return False
    deviations = np.abs(np.diff(rows)) / np.sqrt(rows[1:] + rows[:-1])
    return float((deviations > _DEVIATIONS).mean()) >= _UNEVEN


def has_order(values: Floats, columns: Sequence[Floats]) -> bool:
    """Return whether numbers order the target or another column of numbers.

    Args:
        values: (n,) numbers, NaN where one is missing.
        columns: (n,) each, NaN where one is missing.
    """
    return any(_rank_correlation(values, column) >= _ORDERS for column in columns)


def _rank_correlation(first: Floats, second: Floats) -> float:
    """Return the absolute rank correlation of the rows that have both numbers, 0 of few rows."""
    from scipy.stats import spearmanr

    rows = ~(np.isnan(first) | np.isnan(second))
    if rows.sum() < _LEAST_ROWS or not np.ptp(first[rows]) or not np.ptp(second[rows]):
        return 0.0
    return float(abs(spearmanr(first[rows], second[rows]).statistic))
