"""What batch scoring writes: the finished parts in order, as one Parquet, CSV, TSV or JSON lines file, which appears whole or not at all."""

from __future__ import annotations

import csv
import json
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.csv as pc
import pyarrow.parquet as pq

from components.core.errors import InputError
from components.core.files import atomic
from components.orchestration.batch.batch_worker import ANSWER, REASON
from components.stages.ingest.source_rows import Format

_HEADER = 1 << 20  # characters of a first line that are read


def join(parts: Sequence[Path], out: Path, kind: Format) -> Counter[str]:
    """Write the parts as one file. Returns how often each reason not to answer occurs.

    Raises:
        EnvironmentFault: the disk is full or not writable.
    """
    schema = _common([pq.read_schema(part) for part in parts], text=kind in ("csv", "tsv"))
    reasons: Counter[str] = Counter()
    with atomic(out) as stream:
        for table in _writing(stream, kind, schema, parts):
            reasons.update(
                reason.split(" (line")[0]
                for reason in table[REASON].to_pylist()
                if reason is not None
            )
    return reasons


def column_names(out: Path, kind: Format) -> set[str]:
    """Return the columns of a file that may be an earlier output; none where it cannot be read as one."""
    try:
        if kind == "parquet":
            return set(pq.read_schema(out).names)
        with out.open(encoding="utf-8-sig", errors="replace", newline="") as stream:
            line = stream.readline(_HEADER)
    except (OSError, pa.ArrowException):
        return set()
    if kind == "jsonl":
        try:
            row = json.loads(line)
        except ValueError:
            return set()
        return set(row) if isinstance(row, dict) else set()
    return set(next(csv.reader([line], delimiter="\t" if kind == "tsv" else ","), []))


def check_holds(schema: pa.Schema, kind: Format) -> None:
    """Raise InputError where a format of text cannot hold a column."""
    for field in schema:
        if kind != "parquet" and (
            pa.types.is_binary(field.type) or pa.types.is_large_binary(field.type)
        ):
            raise InputError(
                f"column {field.name!r} holds bytes, which {kind} cannot",
                where="--out",
                remedy="write a .parquet file",
            )


def _writing(
    stream: BinaryIO, kind: Format, schema: pa.Schema, parts: Sequence[Path]
) -> Iterator[pa.Table]:
    """Write part by part; each is yielded when it is written."""
    tables = (_fitted(pq.read_table(part), schema) for part in parts)
    if kind == "jsonl":
        for table in tables:
            for row in table.to_pylist():
                stream.write(
                    (
                        json.dumps(
                            {name: _plain(value) for name, value in row.items()},
                            ensure_ascii=False,
                            default=str,
                        )
                        + "\n"
                    ).encode("utf-8")
                )
            yield table
        return
    options = pc.WriteOptions(delimiter="\t" if kind == "tsv" else ",")
    with (
        pq.ParquetWriter(stream, schema, compression="zstd")
        if kind == "parquet"
        else pc.CSVWriter(stream, schema, write_options=options) as writer
    ):
        for table in tables:
            writer.write_table(table)
            yield table


def _common(schemas: Sequence[pa.Schema], text: bool) -> pa.Schema:
    """One schema for all parts, answers last: a column that is of several kinds becomes text; as does, where only text can be written, what is nested."""
    kinds: dict[str, list[pa.DataType]] = {}
    for schema in schemas:
        for field in schema:
            kinds.setdefault(field.name, []).append(field.type)
    tail = (f"{ANSWER}by", f"{ANSWER}data_hash", REASON)
    names = sorted(
        kinds, key=lambda name: 2 + tail.index(name) if name in tail else name.startswith(ANSWER)
    )
    return pa.schema([(name, _kind(kinds[name], text)) for name in names])


def _kind(types: Sequence[pa.DataType], text: bool) -> pa.DataType:
    try:
        kind = (
            pa.unify_schemas(
                [pa.schema([("x", each)]) for each in types], promote_options="permissive"
            )
            .field("x")
            .type
        )
    except pa.ArrowException:
        return pa.string()
    return pa.string() if pa.types.is_null(kind) or (text and pa.types.is_nested(kind)) else kind


def _fitted(table: pa.Table, schema: pa.Schema) -> pa.Table:
    columns = []
    for field in schema:
        column = (
            table[field.name]
            if field.name in table.column_names
            else pa.nulls(table.num_rows, field.type)
        )
        if column.type != field.type and pa.types.is_string(field.type):
            column = pa.array(
                [
                    None
                    if value is None
                    else value
                    if isinstance(value, str)
                    else json.dumps(value, ensure_ascii=False, default=str)
                    for value in column.to_pylist()
                ],
                pa.string(),
            )
        columns.append(column.cast(field.type))
    return pa.table(columns, schema=schema)


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
