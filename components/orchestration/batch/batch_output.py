"""The output of batch scoring: one Parquet, CSV, TSV or JSON lines file.

The finished parts are joined in order. The file appears whole or not at all.
"""

from __future__ import annotations

import csv
import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.csv as pc
import pyarrow.parquet as pq

from components.core.errors import InputError
from components.core.files import atomic
from components.orchestration.batch.batch_worker import ANSWER, REASON
from components.stages.ingest.source_rows import Format

# Characters of a first line that are read.
_HEADER = 1 << 20
# The last columns, in this order.
_LAST = (f"{ANSWER}by", f"{ANSWER}data_hash", REASON)


def join(parts: Sequence[Path], out: Path, kind: Format) -> Counter[str]:
    """Write the parts as one file.

    Args:
        parts: Parquet files, in order.
        out: the file to write.
        kind: its format.

    Returns:
        Reason for no answer -> number of rows.

    Raises:
        EnvironmentFault: the disk is full or not writable.
    """
    schemas = [pq.read_schema(part) for part in parts]
    schema = _common_schema(schemas, is_text=kind in ("csv", "tsv"))
    reasons: Counter[str] = Counter()
    with atomic(out) as stream:
        tables = (_converted(pq.read_table(part), schema) for part in parts)
        for table in _write(stream, kind, schema, tables):
            values = table[REASON].to_pylist()
            reasons.update(reason.split(" (line")[0] for reason in values if reason is not None)
    return reasons


def column_names(out: Path, kind: Format) -> set[str]:
    """Return the columns of a file that may be an earlier output.

    Args:
        out: the file.
        kind: its format.

    Returns:
        The names; empty if the file cannot be read.
    """
    try:
        if kind == "parquet":
            return set(pq.read_schema(out).names)
        with out.open(encoding="utf-8-sig", errors="replace", newline="") as stream:
            line = stream.readline(_HEADER)
    except (OSError, pa.ArrowException):
        return set()
    if kind == "jsonl":
        return _keys(line)
    return set(next(csv.reader([line], delimiter=_delimiter(kind)), []))


def _keys(line: str) -> set[str]:
    try:
        row = json.loads(line)
    except ValueError:
        return set()
    if not isinstance(row, dict):
        return set()
    return set(row)


def _delimiter(kind: Format) -> str:
    return "\t" if kind == "tsv" else ","


def check_holds(schema: pa.Schema, kind: Format) -> None:
    """Raise an error if a format cannot hold a column.

    Args:
        schema: of the input.
        kind: the format of the output.

    Raises:
        InputError: a column holds bytes, and the format is text.
    """
    if kind == "parquet":
        return
    for field in schema:
        if pa.types.is_binary(field.type) or pa.types.is_large_binary(field.type):
            raise InputError(
                f"column {field.name!r} holds bytes, which {kind} cannot",
                where="--out",
                remedy="write a .parquet file",
            )


def _write(
    stream: BinaryIO, kind: Format, schema: pa.Schema, tables: Iterable[pa.Table]
) -> Iterator[pa.Table]:
    """Write tables one by one. Yield each table after it is written."""
    if kind == "jsonl":
        for table in tables:
            for row in table.to_pylist():
                stream.write(_json_line(row))
            yield table
        return
    with _table_writer(stream, kind, schema) as writer:
        for table in tables:
            writer.write_table(table)
            yield table


def _json_line(row: Mapping[str, Any]) -> bytes:
    values = {name: _without_nan(value) for name, value in row.items()}
    line = json.dumps(values, ensure_ascii=False, default=str)
    return f"{line}\n".encode()


def _table_writer(stream: BinaryIO, kind: Format, schema: pa.Schema) -> Any:
    if kind == "parquet":
        return pq.ParquetWriter(stream, schema, compression="zstd")
    options = pc.WriteOptions(delimiter=_delimiter(kind))
    return pc.CSVWriter(stream, schema, write_options=options)


def _common_schema(schemas: Sequence[pa.Schema], is_text: bool) -> pa.Schema:
    """Return one schema for all parts, with the columns of answers last.

    A column of several types becomes text. In a format of text a nested column becomes text, too.
    """
    types: dict[str, list[pa.DataType]] = {}
    for schema in schemas:
        for field in schema:
            types.setdefault(field.name, []).append(field.type)
    names = sorted(types, key=_position)
    return pa.schema([(name, _common_type(types[name], is_text)) for name in names])


def _position(name: str) -> int:
    """Return the sort key of a column: originals, then answers, then the last columns."""
    if name in _LAST:
        return 2 + _LAST.index(name)
    return int(name.startswith(ANSWER))


def _common_type(types: Sequence[pa.DataType], is_text: bool) -> pa.DataType:
    schemas = [pa.schema([("x", entry)]) for entry in types]
    try:
        common = pa.unify_schemas(schemas, promote_options="permissive").field("x").type
    except pa.ArrowException:
        return pa.string()
    if pa.types.is_null(common):
        return pa.string()
    if is_text and pa.types.is_nested(common):
        return pa.string()
    return common


def _converted(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """Return a table with the columns and the types of a schema."""
    columns = []
    for field in schema:
        if field.name in table.column_names:
            column = table[field.name]
        else:
            column = pa.nulls(table.num_rows, field.type)
        if column.type != field.type and pa.types.is_string(field.type):
            column = pa.array([_as_text(value) for value in column.to_pylist()], pa.string())
        columns.append(column.cast(field.type))
    return pa.table(columns, schema=schema)


def _as_text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, default=str)


def _without_nan(value: Any) -> Any:
    """Return None for infinite numbers and NaN, which JSON does not have, else the value."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
