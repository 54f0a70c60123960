"""Find columns of numbers from which the target nearly follows, alone or two together.

Such columns may be known only after what is predicted. A person must decide that, so they are
named and not left out.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from components.fields.number import DecimalSign
from components.tasks.shared.defaults.tables.target_leaks import numbers_of, texts_of

Floats = NDArray[np.float64]
# Rows that are compared, and the first columns of numbers. Fewer rows prove nothing.
_MOST_ROWS = 2_000
_LEAST_ROWS = 50
_MOST_COLUMNS = 40
# Share of the target's variance from which a column nearly determines it.
_NEARLY = 0.95
# The same for a column whose slope is about one: the target is the column and a remainder.
_HALF = 0.5
_ABOUT_ONE = 0.05
# Share of the rows in which a sum or difference is the target.
_MOST = 0.95
# Area under the curve from which a column tells two classes apart, and the most classes.
_AREA = 0.99
_MOST_CLASSES = 10
_LEAST_OF_A_CLASS = 5
_HOUR = 60
_DAY = 24 * 60


# Names of one or two columns -> how the target nearly follows from them, in a few words.
NearLeaks = dict[tuple[str, ...], str]


@dataclass(frozen=True)
class SampledNumbers:
    """A column of numbers.

    Args:
        values: (n,) of the first rows.
        decimal: sign of those in text.
    """

    values: Sequence[Any]
    decimal: DecimalSign

    def numbers(self, rows: int) -> Floats:
        """Return the numbers of the first rows, NaN where one is missing."""
        return numbers_of(texts_of(self.values[:rows]), self.decimal)


def near_leaks(
    columns: Mapping[str, SampledNumbers], target: Sequence[Any], decimal: DecimalSign | None
) -> NearLeaks:
    """Return the columns from which the target nearly follows.

    Args:
        columns: name -> numbers of the first rows.
        target: (n,) values of the column to predict.
        decimal: of the target; None: it holds names.
    """
    numbers = {}
    for name in list(columns)[:_MOST_COLUMNS]:
        numbers[name] = columns[name].numbers(_MOST_ROWS)
    texts = texts_of(target[:_MOST_ROWS])
    if decimal is None:
        return _of_classes(np.array(texts), numbers)
    return _of_numbers(numbers_of(texts, decimal), numbers)


def _of_numbers(target: Floats, columns: Mapping[str, Floats]) -> NearLeaks:
    """Return the columns from which a number nearly follows.

    Args:
        target: (n,), NaN where it is missing.
        columns: name -> (n,) numbers.
    """
    leaks: NearLeaks = {}
    for name, values in columns.items():
        how = _alone(*_present(target, values))
        if how:
            leaks[(name,)] = how
    others = [name for name in columns if (name,) not in leaks]
    pairs: NearLeaks = {}
    for first, second in itertools.combinations(others, 2):
        how = _together(*_present(target, columns[first], columns[second]))
        if how:
            pairs[first, second] = how
    paired = set(itertools.chain.from_iterable(pairs))
    parts: NearLeaks = {}
    for name in others:
        how = "" if name in paired else _part(*_present(target, columns[name]))
        if how:
            parts[(name,)] = how
    return {**leaks, **pairs, **parts}


def _present(*columns: Floats) -> list[Floats]:
    """Return the rows in which no column lacks a number."""
    rows = ~np.isnan(np.vstack(columns)).any(0)
    return [column[rows] for column in columns]


def _alone(target: Floats, values: Floats) -> str:
    """Return how a number nearly follows from one column; "" where it does not."""
    if not _vary(target, values):
        return ""
    from scipy.stats import spearmanr

    share = float(np.corrcoef(target, values)[0, 1] ** 2)
    ranks = float(spearmanr(target, values).statistic ** 2)
    if max(share, ranks) > _NEARLY:
        return f"R2 {max(share, ranks):.2f}"
    return ""


def _part(target: Floats, values: Floats) -> str:
    """Return how a number is a column and a remainder; "" where it is not."""
    if not _vary(target, values):
        return ""
    share = float(np.corrcoef(target, values)[0, 1] ** 2)
    slope = float(np.cov(values, target)[0, 1] / values.var(ddof=1))
    if abs(abs(slope) - 1) < _ABOUT_ONE and share > _HALF:
        return f"a part of it: slope {slope:.2f}, R2 {share:.2f}"
    return ""


def _together(target: Floats, first: Floats, second: Floats) -> str:
    """Return how a number nearly follows from two columns; "" where it does not."""
    if not _vary(target, first, second):
        return ""
    for word, value in (("sum", first + second), ("difference", first - second)):
        share = float(
            np.isclose(
                np.abs(value),
                np.abs(target),
                rtol=1e-6,
                atol=1e-9,
            ).mean()
        )
        if share >= _MOST:
            return f"their {word}, in {share:.0%} of the rows"
    if is_clock(first) and is_clock(second):
        apart = _minutes(first) - _minutes(second)
        for signed in (apart, -apart):
            # A difference of times of day is known up to whole days.
            share = float(((signed - target) % _DAY == 0).mean())
            if share >= _MOST:
                return f"their difference as times of day, in {share:.0%} of the rows"
    share = _explained(target, first, second)
    return f"R2 {share:.2f} together" if share > _NEARLY else ""


def _explained(target: Floats, first: Floats, second: Floats) -> float:
    """Return R2 of the least squares of two columns; 0 where one repeats the other."""
    correlations = np.corrcoef([target, first, second])
    one = correlations[0, 1]
    two = correlations[0, 2]
    both = correlations[1, 2]
    rest = 1 - both**2
    if rest < 1e-9:
        return 0.0
    return float((one**2 + two**2 - 2 * one * two * both) / rest)


def _vary(*columns: Floats) -> bool:
    """Return whether there are enough rows, and two different numbers in each column."""
    return len(columns[0]) >= _LEAST_ROWS and all(np.ptp(column) > 0 for column in columns)


def is_clock(values: Floats) -> bool:
    """Return whether whole numbers are times of day, such as 517 and 2359.

    Args:
        values: (n,) without missing ones.
    """
    is_whole = bool((values % 1 == 0).all())
    return is_whole and bool(((values >= 0) & (values <= 2400) & (values % 100 < _HOUR)).all())


def _minutes(clock: Floats) -> Floats:
    """Return the minutes since midnight of times such as 517."""
    return clock // 100 * _HOUR + clock % 100


def _of_classes(target: NDArray[np.str_], columns: Mapping[str, Floats]) -> NearLeaks:
    """Return the columns of numbers that tell all classes apart.

    Args:
        target: (n,) names, "" for a missing one.
        columns: name -> (n,) numbers.
    """
    names, counts = np.unique(target[target != ""], return_counts=True)
    names = names[counts >= _LEAST_OF_A_CLASS]
    if not 2 <= len(names) <= _MOST_CLASSES or counts.sum() < _LEAST_ROWS:
        return {}
    leaks: NearLeaks = {}
    for name, values in columns.items():
        area = _least_area(target, values, names)
        if area > _AREA:
            leaks[(name,)] = f"AUC {area:.3f}"
    if len(names) > 2:
        return leaks
    others = [name for name in columns if (name,) not in leaks]
    for first, second in itertools.combinations(others, 2):
        areas = {
            "sum": _least_area(target, columns[first] + columns[second], names),
            "difference": _least_area(target, columns[first] - columns[second], names),
        }
        word = max(areas, key=lambda key: areas[key])
        if areas[word] > _AREA:
            leaks[first, second] = f"AUC {areas[word]:.3f} of their {word}"
    return leaks


def _least_area(target: NDArray[np.str_], values: Floats, names: NDArray[np.str_]) -> float:
    """Return the least area under the curve of a column, of all pairs of classes.

    Args:
        target: (n,) names.
        values: (n,) numbers.
        names: of the classes.
    """
    present = ~np.isnan(values)
    least = 1.0
    for one, two in itertools.combinations(names, 2):
        is_one = present & (target == one)
        is_two = present & (target == two)
        least = min(least, _area(values[is_one], values[is_two]))
        if least <= _AREA:
            break
    return least


def _area(one: Floats, two: Floats) -> float:
    """Return the share of pairs that one column orders, or orders in reverse; ties are half."""
    if not len(one) or not len(two):
        return 0.0
    ordered = np.sort(two)
    below = np.searchsorted(ordered, one, side="left")
    through = np.searchsorted(ordered, one, side="right")
    share = float((below + through).mean() / 2 / len(two))
    return max(share, 1 - share)
