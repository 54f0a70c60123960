"""Unique contents of the raw table, cleaned once, and which rows have them.

Contents that earlier runs have cleaned are taken from the cache.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from components.core.cache import Cache
from components.core.job import Job
from components.core.parallel_map import parallel_map
from components.core.tables import ROWS_PER_SHARD
from components.stages.clean.cleaning import (
    CleanInput,
    clean_piece,
    content,
    row_wise,
    row_wise_key,
    unique_rows_schema,
)
from components.tasks import base

ROWS_PER_TASK = 4000
# Suffix of the key of the contents that came since the others were written.
_SINCE = "s"
# Share of the contents that may have come or gone before all of them are written again.
_REWRITE_SHARE = 1 / 8
# Contents that are hashed, and cleaned in one task, at a time.
_ROWS_PER_DIGEST = 100_000
_BYTES_PER_DIGEST = 1 << 26

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class UniqueRows:
    """Cleaned unique contents of the raw table.

    Args:
        contents: of `unique_rows_schema`, in one chunk.
        content_of: (raw rows,) the row of `contents` of each raw row.
    """

    contents: pa.Table
    content_of: Rows

    def column(self, name: str, rows: Rows) -> pa.Array:
        """Return a column for some raw rows.

        Args:
            name: of the column of `contents`.
            rows: raw rows.
        """
        return _whole(self.contents[name]).take(pa.array(self.content_of[rows]))

    def where(self, name: str, value: str) -> Rows:
        """Return the raw rows that have a value in a column.

        Args:
            name: of the column of `contents`.
            value: of the column.
        """
        equal = pc.equal(_whole(self.contents[name]), value)
        matches = equal.to_numpy(zero_copy_only=False)
        return np.flatnonzero(matches[self.content_of])

    def coded(self, name: str, rows: Rows) -> tuple[Rows, list[Any]]:
        """Return a column for some raw rows as whole numbers, and the values by number.

        Equal values have equal numbers. A missing value is -1.

        Args:
            name: of the column of `contents`.
            rows: raw rows.

        Returns:
            (rows,) numbers; the values.
        """
        encoded = _whole(self.contents[name]).dictionary_encode()
        numbers = encoded.indices.fill_null(-1).to_numpy()
        values: list[Any] = encoded.dictionary.to_pylist()
        raw_numbers = numbers[self.content_of[rows]]
        return raw_numbers.astype(np.int64), values

    def values(self, name: str, rows: Rows, kind: pa.DataType) -> pa.ChunkedArray:
        """Return the cleaned values of some raw rows.

        Chunks are no longer than a shard, so that their offsets fit into 32 bits.

        Args:
            name: of an input column.
            rows: raw rows.
            kind: type of the values.
        """
        column = _whole(self.contents[f"value.{name}"])
        positions = self.content_of[rows]
        chunks = []
        for start in range(0, len(positions), ROWS_PER_SHARD):
            chunk = pa.array(positions[start : start + ROWS_PER_SHARD])
            chunks.append(column.take(chunk).cast(kind))
        return pa.chunked_array(chunks, kind)

    def value(self, name: str, row: int) -> Any:
        """Return the cleaned value of one raw row.

        Args:
            name: of an input column.
            row: raw row.
        """
        return _whole(self.contents[f"value.{name}"])[int(self.content_of[row])].as_py()

    def changes(self, rows: Rows) -> Iterator[tuple[str, int]]:
        """Yield what cleaning took from contents, as JSON, and how many of some raw rows have it.

        Args:
            rows: raw rows.
        """
        counts = np.bincount(self.content_of[rows], minlength=self.contents.num_rows)
        column = _whole(self.contents["changes"])
        is_changed = column.is_valid().to_numpy(zero_copy_only=False)
        changed = is_changed & (counts > 0)
        for position in np.flatnonzero(changed).tolist():
            yield column[position].as_py(), int(counts[position])

    def bands(self, name: str, rows: Rows) -> tuple[Rows, NDArray[np.uint64]]:
        """Return the signatures of an input column.

        Args:
            name: of the column.
            rows: raw rows.

        Returns:
            (n,) positions among `rows` that have a signature; (n, bands) of them.
        """
        column = self.column(f"bands.{name}", rows)
        positions = np.flatnonzero(column.is_valid().to_numpy(zero_copy_only=False))
        full = column.drop_null()
        if not len(full):
            return positions, np.empty((len(positions), 0), np.uint64)
        _, offsets_buffer, data_buffer = full.buffers()
        offsets = np.frombuffer(offsets_buffer, np.int64)
        first = offsets[full.offset]
        last = offsets[full.offset + len(full)]
        data = np.frombuffer(data_buffer or b"", np.uint8)[first:last]
        bands = data.view(np.uint64)
        if not len(data):
            return positions, bands.reshape(len(positions), 0)
        return positions, bands.reshape(len(positions), -1)


def gather(
    job: Job,
    schema: base.Schema,
    raw: pa.Table,
    cache: Cache,
) -> UniqueRows:
    """Return the cleaned unique contents of the raw table.

    Args:
        job: clean.
        schema: of the pipeline.
        raw: the raw table.
        cache: cache of earlier runs.
    """
    columns = unique_rows_schema(schema)
    key = row_wise_key(job.task, schema, job.params, job.seed)
    main = _cached(cache, key, columns)
    since = _cached(cache, key + _SINCE, columns)
    cached = pa.concat_tables([main, since]).combine_chunks()

    rows = raw.select(content(schema))
    codes, digests = _distinct(rows)
    matches = pc.index_in(digests, value_set=_whole(cached["content"]))
    content_of = matches.fill_null(-1).to_numpy().astype(np.int64)
    new = np.flatnonzero(content_of < 0)
    cleaned = _clean_new(job, schema, rows, codes, digests, new)
    content_of[new] = cached.num_rows + np.arange(len(new))
    contents = pa.concat_tables([cached, *cleaned]).combine_chunks()
    _remember(cache, key, contents, np.sort(content_of), main.num_rows)
    return UniqueRows(contents, content_of[codes])


def _cached(cache: Cache, key: str, schema: pa.Schema) -> pa.Table:
    """Return the table of a key of the cache; an empty one if there is none.

    Args:
        cache: the cache.
        key: of the table.
        schema: of an empty table.
    """
    tables = cache.get(key, [schema]) or [schema.empty_table()]
    return tables[0]


def _clean_new(
    job: Job,
    schema: base.Schema,
    rows: pa.Table,
    codes: Rows,
    digests: pa.Array,
    new: Rows,
) -> list[pa.Table]:
    """Return the cleaned contents that the cache has not.

    Args:
        job: clean.
        schema: of the pipeline.
        rows: the columns of the raw table that cleaning reads.
        codes: (raw rows,) number of each row's content.
        digests: (contents,) SHA-256.
        new: numbers of the contents.
    """
    content_field = unique_rows_schema(schema).field("content")
    # Assigned from the last row to the first: of rows with one content the first remains.
    first = np.empty(len(digests), np.int64)
    first[codes[::-1]] = np.arange(len(codes) - 1, -1, -1)
    # Photos are many bytes a row: a task ends at either number.
    step = min(ROWS_PER_TASK, _rows_per_digest(rows))
    cuts = [first[new[start : start + step]] for start in range(0, len(new), step)]
    tables = []
    for start, table in _clean(job, schema, rows, cuts):
        content_digests = digests.take(pa.array(new[start : start + table.num_rows]))
        tables.append(table.add_column(0, content_field, content_digests))
    return tables


def _remember(
    cache: Cache,
    key: str,
    contents: pa.Table,
    used: Rows,
    main: int,
) -> None:
    """Put the contents that the source has now into the cache.

    The contents that came since are written beside the `main` ones, as long as they and those
    that are gone are few.

    Args:
        cache: the cache.
        key: of the contents.
        contents: cached and new ones.
        used: ascending, those that the source has now.
        main: number of contents that were written at once.
    """
    since = used[used >= main]
    gone = main - (len(used) - len(since))
    if len(since) + gone > main * _REWRITE_SHARE:
        cache.put(key, [contents.take(pa.array(used))])
        since = since[:0]
    cache.put(key + _SINCE, [contents.take(pa.array(since))])


def _clean(
    job: Job,
    schema: base.Schema,
    rows: pa.Table,
    cuts: Sequence[Rows],
) -> list[tuple[int, pa.Table]]:
    """Return the cleaned parts, each with the number of contents before it.

    Args:
        job: whose journal shows the progress.
        schema: of the pipeline.
        rows: all of them.
        cuts: ascending positions, one array a part; a part is built when its turn comes.
    """
    params = row_wise(schema, job.params)
    results: list[tuple[int, pa.Table]] = []
    ready = 0
    total = sum(len(cut) for cut in cuts)
    inputs = (
        CleanInput(job.task, schema.chosen, params, job.seed, _rows_at(rows, cut)) for cut in cuts
    )
    tables: Iterable[pa.Table]
    if len(cuts) > 1:
        tables = parallel_map(clean_piece, inputs)
    else:
        # One part is cleaned here: a task of its own would only be started and waited for.
        tables = map(clean_piece, inputs)
    for table in tables:
        results.append((ready, table))
        ready += table.num_rows
        job.journal.progress(rows.num_rows - total + ready, rows.num_rows, "rows")
    return results


def _rows_at(rows: pa.Table, positions: Rows) -> pa.Table:
    """Return the rows at ascending positions.

    Arrow joins all chunks of a table before it takes rows. The rows between the first and the last
    position are in few of them.
    """
    first = int(positions[0])
    near = rows.slice(first, int(positions[-1]) - first + 1)
    return near.take(pa.array(positions - first))


def _distinct(rows: pa.Table) -> tuple[Rows, pa.Array]:
    """Return the number of each row's content, and the SHA-256 of the contents by number.

    Contents are numbered in the order of their first rows.

    Args:
        rows: the columns of the raw table that cleaning reads.

    Returns:
        (rows,) numbers of contents; (contents,) SHA-256 as 32 bytes.
    """
    step = _rows_per_digest(rows)
    parts = [_digests(rows.slice(start, step)) for start in range(0, rows.num_rows, step)]
    digests: list[bytes] = []
    if parts:
        digests = np.concatenate(parts).tolist()
    coded = pa.array(digests, pa.binary(32)).dictionary_encode()
    return coded.indices.to_numpy().astype(np.int64), coded.dictionary


def _rows_per_digest(rows: pa.Table) -> int:
    """Return how many rows are hashed at a time."""
    rows_in_bytes: int = _BYTES_PER_DIGEST * rows.num_rows // max(1, rows.nbytes)
    return max(1, min(_ROWS_PER_DIGEST, rows_in_bytes))


def _digests(rows: pa.Table) -> NDArray[np.object_]:
    """Return (rows,) the SHA-256 of each row's content."""
    parts: list[pa.Array] = []
    for column in rows.columns:
        data = _as_bytes(column.combine_chunks())
        # Each value follows its length, so that no two rows look alike. A missing value is not
        # an empty one.
        length = pc.binary_length(data).cast(pa.string()).fill_null("-")
        parts.append(length.cast(pa.large_binary()))
        parts.append(data.fill_null(b""))
    separator = pa.scalar(b":", pa.large_binary())
    coded = pc.binary_join_element_wise(*parts, separator).dictionary_encode()
    hashes: NDArray[np.object_] = np.empty(len(coded.dictionary), object)
    hashes[:] = [hashlib.sha256(value).digest() for value in coded.dictionary.to_pylist()]
    indices: NDArray[np.int32] = coded.indices.to_numpy()
    return hashes[indices]


def _as_bytes(values: pa.Array) -> pa.Array:
    """Return values as bytes: numbers as their shortest exact text."""
    if not pa.types.is_binary(values.type) and not pa.types.is_large_binary(values.type):
        values = values.cast(pa.large_string())
    return values.cast(pa.large_binary())


def _whole(column: pa.ChunkedArray) -> pa.Array:
    """Return a column in one chunk."""
    if column.num_chunks == 1:
        return column.chunk(0)
    return column.combine_chunks()
