"""The input of batch scoring: Parquet, CSV, TSV or JSON lines, read in chunks.

The chunks of a file are the same on each reading.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from components.core.errors import InputError
from components.stages.ingest import formats
from components.stages.ingest.columns import Column, Layout, layout, nearest
from components.stages.ingest.encodings import detect
from components.stages.ingest.source_files import SUFFIXES
from components.stages.ingest.source_rows import Bad, Format, Record, Unit
from components.tasks.base import Role

KINDS: Mapping[Format, formats.Reader | None] = {
    "parquet": None,
    "csv": formats.tables,
    "tsv": formats.tables,
    "jsonl": formats.objects,
}
# Rows and bytes at which a chunk ends. They do not depend on the number of workers, so that a
# resumed run reads the same chunks.
_ROWS = 4096
_BYTES = 1 << 24
# Rows of a batch that is read from Parquet.
_STEP = 256


@dataclass(frozen=True)
class Rows:
    """Holds a chunk of the input.

    Args:
        originals: the rows with all columns of the file.
        broken: (rows,) why a row is no record. None: it is one.
    """

    originals: pa.Table
    broken: Sequence[str | None]


@dataclass(frozen=True)
class RequestedColumns(Layout):
    """Describes the input columns of a task. A file may have other columns, too."""

    def check(self, found: Iterable[str], where: str) -> None:
        """Check the columns of a file.

        The output has the original columns, so no column may hide another.

        Args:
            found: the names of the columns.
            where: for the error message.

        Raises:
            InputError: a required input column is absent, or two columns have the same name.
        """
        names = list(found)
        duplicates = sorted({name for name in names if names.count(name) > 1})
        if duplicates:
            raise InputError(
                f"has more than one column named {duplicates[0]!r}",
                where=where,
                remedy="rename all but one",
            )
        for column in self.columns:
            if not column.must or column.source in names:
                continue
            source = column.source
            columns = ", ".join(map(repr, names[:30])) or "none"
            remedy = "--column NAME names the one to ask about"
            if column is not self.input:
                remedy = f"rename the column, or add {source!r} with empty values"
            raise InputError(
                f"has no column {source!r}{nearest(source, names)}; its columns: {columns}",
                where=where,
                remedy=remedy,
            )


def requested_columns(
    roles: Sequence[Role], column: str | None, named: Mapping[str, str], limit: int | None
) -> RequestedColumns:
    """Return the input columns of a task.

    Args:
        roles: of its schema.
        column: the name of the first input in the file; None: as in ingest.
        named: `ingest.columns`.
        limit: bytes of one value; None: what suits the kind of input.
    """
    inputs = [role for role in roles if role.role == "input"]
    names = {role.name: named[role.name] for role in inputs if role.name in named}
    if column:
        names[inputs[0].name] = column
    full = layout(inputs, names, limit)
    required = {role.name: role.required for role in inputs}
    columns = []
    for entry in full.columns:
        if entry.role == "input":
            columns.append(replace(entry, must=required[entry.name]))
    return RequestedColumns(columns, full.limit)


def kind_of(path: Path, option: str) -> Format:
    """Return the format that the suffix of a file names.

    Args:
        path: of the file.
        option: of the command line, for the error message.

    Raises:
        InputError: rows cannot be read from or written to such files.
    """
    kind = SUFFIXES.get(path.suffix.lower())
    if kind is None or kind not in KINDS:
        supported = ", ".join(sorted(suffix for suffix, name in SUFFIXES.items() if name in KINDS))
        raise InputError(
            f"{path.name!r} has none of the suffixes {supported}",
            where=option,
            remedy="name the format by the suffix",
        )
    return kind


def count_rows(path: Path) -> int | None:
    """Return the number of rows of a Parquet file. None: the format does not store it.

    Args:
        path: of the file.

    Raises:
        InputError: the file is not readable Parquet.
    """
    if kind_of(path, "--in") != "parquet":
        return None
    with _parquet(path) as file:
        return int(file.metadata.num_rows)


def read_chunks(path: Path, wanted: RequestedColumns) -> Iterator[Rows]:
    """Yield the rows of a file in chunks, from its beginning to its end.

    Args:
        path: of the file.
        wanted: the input columns.

    Raises:
        InputError: the file cannot be read as its suffix says, or lacks the column.
    """
    kind = kind_of(path, "--in")
    reader = KINDS[kind]
    if reader is None:
        yield from _parquet_chunks(path, wanted)
        return
    if path.stat().st_size == 0:
        raise InputError("is empty", where=path.name, remedy="put rows into it")
    try:
        encoding = detect(path, "auto", path.name)
    except InputError as error:
        raise InputError(error.what, where=error.where, remedy="write it as UTF-8") from None
    records = reader(
        Unit(
            path.name,
            (path,),
            kind,
            encoding,
        ),
        wanted,
        set(),
    )
    yield from _record_chunks(records, wanted.input.source)


def _parquet(path: Path) -> Any:
    try:
        return pq.ParquetFile(path)
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: Exception) -> InputError:
    return InputError(
        f"is not readable Parquet: {error}", where=path.name, remedy="write the file again"
    )


def _parquet_chunks(path: Path, wanted: RequestedColumns) -> Iterator[Rows]:
    with _parquet(path) as file:
        wanted.check(file.schema_arrow.names, path.name)
        batches: list[pa.RecordBatch] = []
        try:
            for batch in file.iter_batches(batch_size=min(_STEP, _ROWS)):
                batches.append(batch)
                rows = sum(part.num_rows for part in batches)
                size = sum(part.nbytes for part in batches)
                if rows >= _ROWS or size >= _BYTES:
                    yield _from_batches(batches)
                    batches = []
        except (pa.ArrowException, OSError) as error:
            raise _unreadable(path, error) from None
        if batches:
            yield _from_batches(batches)


def _from_batches(batches: Sequence[pa.RecordBatch]) -> Rows:
    table = pa.Table.from_batches(batches)
    return Rows(table, [None] * table.num_rows)


def _record_chunks(records: Iterable[Record | Bad], column: str) -> Iterator[Rows]:
    chunk: list[Record | Bad] = []
    size = 0
    for record in records:
        chunk.append(record)
        size += _text_length(record)
        if len(chunk) >= _ROWS or size >= _BYTES:
            yield _as_rows(chunk, column)
            chunk = []
            size = 0
    if chunk:
        yield _as_rows(chunk, column)


def _text_length(record: Record | Bad) -> int:
    if not isinstance(record, Record):
        return 0
    return sum(len(value) for value in record.values.values() if isinstance(value, str))


def _as_rows(records: Sequence[Record | Bad], column: str) -> Rows:
    values: list[Mapping[str, Any]] = []
    names: dict[str, None] = {}
    for record in records:
        row = record.values if isinstance(record, Record) else {}
        values.append(row)
        names |= dict.fromkeys(row)
    columns: dict[str, pa.Array] = {}
    for name in names:
        columns[_replaced(name)] = _column([row.get(name) for row in values])
    if columns:
        table = pa.table(columns)
    else:
        # A table without columns, but with the number of rows.
        table = pa.table({"": pa.nulls(len(records))}).drop_columns([""])
    return Rows(table, [_reason(record, column) for record in records])


def _reason(record: Record | Bad, column: str) -> str | None:
    """Return why a record cannot be scored, or None."""
    if isinstance(record, Bad):
        return f"{record.reason} (line {record.row})"
    return _fault(record.values.get(column))


def _column(values: Sequence[Any]) -> pa.Array:
    """Return values of one type as an array of it, and values of several types as text."""
    try:
        return pa.array(values)
    except (pa.ArrowException, UnicodeEncodeError, OverflowError):
        return pa.array([_as_text(value) for value in values])


def _as_text(value: Any) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str):
        value = json.dumps(value, ensure_ascii=False)
    return _replaced(value)


def _fault(value: Any) -> str | None:
    """Return why a value is no text that a file can hold, or None.

    Such values are nested values and text with half a surrogate pair.
    """
    if isinstance(value, (dict, list)):
        return "not_text"
    if isinstance(value, str) and _replaced(value) != value:
        return "broken_unicode"
    return None


def _replaced(text: str) -> str:
    """Return a text without half surrogate pairs. JSON allows them, but no file can hold them."""
    return text.encode("utf-8", "replace").decode("utf-8")


def raw_values(rows: Rows, column: Column) -> list[Any]:
    """Return the values of an input column. None: the row has no value.

    Args:
        rows: a chunk of the input.
        column: the input column.

    Returns:
        (rows,) the values.
    """
    if column.source not in rows.originals.column_names:
        return [None] * len(rows.broken)
    return list(rows.originals[column.source].to_pylist())
