"""Targets that no column holds as a word: numbers with names elsewhere, a column for each value,
the name of the file.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import pyarrow as pa

from components.stages.ingest.columns import Column, Layout
from components.stages.ingest.params import FILE_TARGET, ONE_HOT
from components.stages.ingest.source_rows import TABLES, Bad, Record, Unit

_TRUE = frozenset({"1", "1.0", "true"})
_FALSE = frozenset({"", "0", "0.0", "false", "nan", "null"})


def added_columns(unit: Unit) -> list[str]:
    """Return the names of the columns that are added to those of a table.

    Args:
        unit: the table.
    """
    if unit.format not in TABLES:
        return []
    added = []
    if unit.one_hot:
        added.append(ONE_HOT)
    if unit.has_file_target:
        added.append(FILE_TARGET)
    return added


def read_layout(unit: Unit, wanted: Layout) -> Layout:
    """Return the columns that a reader must find, with those from which others are made.

    Args:
        unit: the table.
        wanted: the columns of the raw table.
    """
    added = added_columns(unit)
    if not added:
        return wanted
    columns = [
        replace(column, must=column.must and column.source not in added)
        for column in wanted.columns
    ]
    if ONE_HOT in added and wanted.columns:
        columns += [Column(name, name, pa.string(), "meta", must=True) for name in unit.one_hot]
    return replace(wanted, columns=columns)


def with_derived(records: Iterable[Record | Bad], unit: Unit) -> Iterator[Record | Bad]:
    """Yield the records of a table with the columns that are made of others.

    Args:
        records: of the table.
        unit: the table.
    """
    names = dict(unit.value_names)
    added = added_columns(unit)
    if not names and not added:
        yield from records
        return
    for record in records:
        if isinstance(record, Bad):
            yield record
            continue
        values = dict(record.values)
        for column, value_names in names.items():
            if column in values:
                values[column] = _named(values[column], value_names)
        if FILE_TARGET in added:
            values[FILE_TARGET] = unit.target_value
        if ONE_HOT in added:
            yield _with_one_hot(record, values, unit.one_hot)
        else:
            yield replace(record, values=values)


def _with_one_hot(record: Record, values: dict[str, Any], columns: Sequence[str]) -> Record | Bad:
    """Return a record with the names of the columns that are 1, or its refusal.

    Args:
        record: the record.
        values: its values; extended by the names.
        columns: those that are 1 in the rows of their value and else 0.
    """
    flags = {column: flag_of(values.get(column)) for column in columns}
    for column, flag in flags.items():
        if flag is None:
            return Bad(record.row, "neither_0_nor_1", f"{column}: {values[column]}"[:150])
    ones = [column for column, flag in flags.items() if flag]
    values[ONE_HOT] = ones[0] if len(ones) == 1 else ones
    return replace(record, values=values)


def flag_of(value: Any) -> bool | None:
    """Return whether a value of a column for one value says yes; None for what says neither.

    Args:
        value: of one cell.
    """
    word = "" if value is None else str(value).strip().casefold()
    if word in _TRUE:
        return True
    if word in _FALSE:
        return False
    return None


def _named(value: Any, names: Sequence[str]) -> Any:
    """Return the name of a number; -1 has none, and what is no number stays."""
    if isinstance(value, list):
        return [_named(item, names) for item in value]
    try:
        number = int(str(value).removesuffix(".0"))
    except ValueError:
        return value
    if number == -1:
        return None
    if 0 <= number < len(names):
        return names[number]
    return value
