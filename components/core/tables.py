"""Write and read tables: a folder of zstd Parquet shards and a `manifest.json`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from components.core.errors import InputError
from components.core.files import sha256, to_json, write_atomic
from components.core.mapped_tables import take_rows, write_mapped

MANIFEST = "manifest.json"
# Folder beside tokens, with the network whose vocabulary they come from.
PRETRAINED = "pretrained"
ROWS_PER_SHARD = 50_000
# Size from which rows that wait for others become a shard.
_BYTES_PER_SHARD = 1 << 28
# Rows by which their size is judged; rows and bytes that are copied at once.
_ROWS_PER_LOOK = 64
_ROWS_PER_COPY = 4000
_BYTES_PER_COPY = 1 << 26


class TableWriter:
    """A table that is written part by part, with no more than a shard in memory.

    A shard has `rows_per_shard` rows, or fewer where they are large. It depends on the rows alone.

    Args:
        folder: created. It must not hold other shards.
        rows_per_shard: most rows of a shard.
    """

    def __init__(self, folder: Path, rows_per_shard: int = ROWS_PER_SHARD) -> None:
        self._folder = folder
        self._rows_per_shard = rows_per_shard
        self._rows: dict[str, int] = {}
        self._shards: list[dict[str, Any]] = []
        self._waiting: list[pa.Table] = []
        self._schema: pa.Schema | None = None
        self._part = ""
        folder.mkdir(parents=True, exist_ok=True)

    def write(self, part: str, rows: pa.Table) -> None:
        """Add rows to a part; a part that is begun ends the one before it.

        Args:
            part: its name.
            rows: of the schema of all other rows; none are allowed.
        """
        if part != self._part:
            self._flush()
            self._part = part
        self._schema = self._schema or rows.schema
        self._rows[part] = self._rows.get(part, 0) + rows.num_rows
        self._waiting.append(rows)
        waiting = pa.concat_tables(self._waiting)
        while waiting.num_rows >= self._rows_per_shard or waiting.nbytes >= _BYTES_PER_SHARD:
            self._write_shard(waiting.slice(0, self._rows_per_shard))
            waiting = waiting.slice(self._rows_per_shard)
        self._waiting = [waiting] if waiting.num_rows else []

    def close(self, metadata: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Write the last shard and the manifest.

        Args:
            metadata: more about the content for the manifest (counts, targets): no times, ids or
                paths.

        Returns:
            The manifest as written.
        """
        self._flush()
        manifest = {
            "rows": sum(self._rows.values()),
            "parts": self._rows,
            "schema": {field.name: str(field.type) for field in self._schema or pa.schema([])},
            "shards": self._shards,
            **(metadata or {}),
        }
        write_atomic(self._folder / MANIFEST, to_json(manifest))
        return manifest

    def _flush(self) -> None:
        """Write the rows that wait as the last shard of their part."""
        if self._waiting:
            self._write_shard(pa.concat_tables(self._waiting))
        self._waiting = []

    def _write_shard(self, rows: pa.Table) -> None:
        """Write rows as the next shard of the part."""
        number = sum(shard["file"].rsplit("-", 1)[0] == self._part for shard in self._shards)
        path = self._folder / f"{self._part}-{number:05d}.parquet"
        pq.write_table(rows, path, compression="zstd")
        self._shards.append({"file": path.name, "rows": rows.num_rows, "sha256": sha256(path)})


def write_table(
    folder: Path,
    parts: Mapping[str, pa.Table],
    metadata: Mapping[str, Any] | None = None,
    rows_per_shard: int = ROWS_PER_SHARD,
) -> dict[str, Any]:
    """Write named parts as `<part>-NNNNN.parquet` shards and a manifest.

    Args:
        folder: created. It must not hold other shards.
        parts: part name (a split, or "rows") -> rows. An empty part gives no shard.
        metadata: of `TableWriter.close`.
        rows_per_shard: most rows of a shard.

    Returns:
        The manifest as written.
    """
    writer = TableWriter(folder, rows_per_shard)
    for name, table in parts.items():
        for start in range(0, max(1, table.num_rows), rows_per_shard):
            writer.write(name, table.slice(start, rows_per_shard))
    return writer.close(metadata)


def read_manifest(folder: Path) -> dict[str, Any]:
    """Return the manifest of a table.

    Raises:
        InputError: there is no manifest, or it is invalid.
    """
    try:
        manifest: dict[str, Any] = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        if not {"schema", "shards"} <= manifest.keys():
            raise ValueError("shards and schema are missing")
    except (OSError, ValueError, AttributeError) as error:
        raise InputError(
            f"holds no readable {MANIFEST} ({type(error).__name__})",
            where=str(folder),
            remedy="dvc repro the stage that writes it",
        ) from None
    return manifest


def read_table(folder: Path, part: str | None = None, columns: list[str] | None = None) -> pa.Table:
    """Return a part of a table, or all of it, after comparing each shard with its SHA-256.

    Args:
        folder: of the table.
        part: name of the part. None: all parts.
        columns: names of the columns. None: all columns.

    Raises:
        InputError: a shard is missing or differs from the manifest.
    """
    shards = list(_verified(folder, part))
    if not shards:
        return _empty_table(read_manifest(folder)["schema"], columns)
    tables = [pq.read_table(path, columns=columns, memory_map=True) for path in shards]
    return pa.concat_tables(tables)


def batches_of(
    folder: Path, part: str | None = None, columns: Sequence[str] | None = None
) -> Iterator[pa.RecordBatch]:
    """Yield a part of a table, or all of it, in batches of at most 4,000 rows or 64 MiB.

    Args:
        folder: of the table.
        part: name of the part. None: all parts.
        columns: names of the columns, in the order of the batches. None: all columns.

    Raises:
        InputError: a shard is missing or differs from the manifest.
    """
    for path in _verified(folder, part):
        file = pq.ParquetFile(path, memory_map=True)
        group = file.metadata.row_group(0)
        row_bytes = max(1, group.total_byte_size // max(1, group.num_rows))
        # Values that are stored once count once in it.
        for batch in file.iter_batches(_ROWS_PER_LOOK, columns=columns):
            row_bytes = max(row_bytes, batch.nbytes // batch.num_rows)
            break
        size = max(1, min(_ROWS_PER_COPY, _BYTES_PER_COPY // row_bytes))
        for batch in file.iter_batches(size, columns=columns):
            yield batch.select(columns) if columns else batch


def map_table(
    folder: Path,
    copy: Path,
    part: str | None = None,
    columns: Sequence[str] | None = None,
    types: Mapping[str, pa.DataType] | None = None,
) -> pa.Table:
    """Return what `read_table` returns, mapped from an uncompressed copy.

    Args:
        folder: of the table.
        copy: file to which it is copied.
        part: name of the part. None: all parts.
        columns: names of the columns. None: all columns.
        types: column -> another type for it.

    Raises:
        InputError: a shard is missing or differs from the manifest.
    """
    batches = batches_of(folder, part, columns)
    first = next(batches, None)
    schema = _empty_table(read_manifest(folder)["schema"], columns).schema
    if first is not None:
        schema = first.schema
    for name, kind in (types or {}).items():
        number = schema.get_field_index(name)
        schema = schema.set(number, schema.field(number).with_type(kind))
    tables = (pa.Table.from_batches([batch]).cast(schema) for batch in _with(first, batches))
    return write_mapped(tables, schema, copy)


def _with(first: pa.RecordBatch | None, rest: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Yield the first batch, if there is one, and the rest."""
    if first is not None:
        yield first
    yield from rest


def sample(table: pa.Table, most: int, seed: int) -> pa.Table:
    """Return at most so many rows of a table, in their order.

    Args:
        table: of any rows.
        most: a table with at most so many rows is returned as it is.
        seed: of the draw.
    """
    if table.num_rows <= most:
        return table
    drawn = np.random.default_rng(seed).choice(table.num_rows, most, replace=False)
    return take_rows(table, np.sort(drawn))


def _empty_table(schema: Mapping[str, str], columns: Sequence[str] | None) -> pa.Table:
    """Return a table without rows.

    Its columns are in the given order, so that it can be joined to a part with rows.
    """
    types = {}
    for name, kind in schema.items():
        is_simple = kind in ("string", "int64", "double", "binary")
        types[name] = pa.type_for_alias(kind) if is_simple else pa.null()
    return pa.table({name: pa.array([], types[name]) for name in columns or types})


def _verified(folder: Path, part: str | None) -> Iterator[Path]:
    """Yield the paths of a part's shards, each after a comparison with its SHA-256."""
    for shard in read_manifest(folder)["shards"]:
        if part is not None and shard["file"].rsplit("-", 1)[0] != part:
            continue
        path = folder / shard["file"]
        if not path.is_file() or sha256(path) != shard["sha256"]:
            raise InputError(
                "is missing or does not match its manifest: it was cut or edited",
                where=str(path),
                remedy=f"dvc checkout {folder.name}, or dvc repro the stage that writes it",
            )
        yield path
