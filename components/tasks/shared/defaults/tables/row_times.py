"""Guess the column with the time of a row, for a split by time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np

from components.fields.base import Reject
from components.fields.moment import DateOrder, parse_moment
from components.tasks.base import Setting
from components.tasks.shared.defaults.tables.column_kinds import ColumnValues, Guess

# Share of the rows that must have a time, and the days that the times must span at least.
_MOST = 0.95
_LEAST_DAYS = 20
_SECONDS_OF_A_DAY = 24 * 60 * 60
# Rank correlation of times and positions from which rows are in order of time.
_IN_ORDER = 0.9
# Words of dates that are not the time of a row.
_OTHER_DATES = frozenset(("birth", "birthday", "birthdate", "born", "dob"))
_OTHER_ENDINGS = ("出生日期", "生日")


def settings_of_time(
    rows: Mapping[str, Sequence[Any]],
    values: Mapping[str, ColumnValues],
    guesses: Mapping[str, Guess],
    count: int,
) -> list[Setting]:
    """Return the settings of a split by time, where one column tells the time of each row.

    Args:
        rows: column -> (n,) values of the first rows.
        values: of each column.
        guesses: kinds of the columns.
        count: rows of which `values` are.
    """
    name = time_of_rows(rows, values, guesses, count)
    if name is None:
        return []
    reason = f"{name} tells the time of each row: the latest are test (hash: they are drawn)"
    return [
        Setting("ingest.columns.time", name, ""),
        Setting("ingest.time_order", guesses[name].order, ""),
        Setting("clean.split_by", "time", reason),
    ]


def time_of_rows(
    rows: Mapping[str, Sequence[Any]],
    values: Mapping[str, ColumnValues],
    guesses: Mapping[str, Guess],
    count: int,
) -> str | None:
    """Return the column that tells the time of each row; None where none or several may.

    It is the only column of dates that spans the rows, or the only one in whose order they are.

    Args:
        rows: column -> (n,) values of the first rows.
        values: of each column.
        guesses: kinds of the columns.
        count: rows of which `values` are.
    """
    names = []
    for name, guess in guesses.items():
        if guess.kind == "time" and _spans(values[name], count):
            names.append(name)
    if len(names) > 1:
        names = [name for name in names if _is_ordered(rows[name], guesses[name].order)]
    return names[0] if len(names) == 1 else None


def _spans(values: ColumnValues, count: int) -> bool:
    """Return whether nearly all rows have a time, and these are of many days."""
    if not _OTHER_DATES.isdisjoint(values.words) or values.name.endswith(_OTHER_ENDINGS):
        return False
    days = {moment // _SECONDS_OF_A_DAY for moment in values.moments.values()}
    return values.column.filled >= _MOST * count and len(days) >= _LEAST_DAYS


def _is_ordered(texts: Sequence[Any], order: DateOrder) -> bool:
    """Return whether rows are in the order of their times, or in reverse."""
    moments = []
    for text in texts:
        with suppress(Reject):
            moment = parse_moment(str(text), order)
            if moment is not None:
                moments.append(moment)
    if len(set(moments)) < _LEAST_DAYS:
        return False
    from scipy.stats import spearmanr

    return float(abs(spearmanr(moments, np.arange(len(moments))).statistic)) >= _IN_ORDER
