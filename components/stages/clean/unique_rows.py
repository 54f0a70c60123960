"""Unique contents of the raw table, cleaned once, and which rows have them.

Contents that earlier runs have cleaned are taken from the cache.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from components.core.cache import Cache
from components.core.job import Job
from components.core.mapped_tables import take, take_rows, windows, write_mapped
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
# Size of the values that are in memory at once, by their mean. Offsets of 32 bits end at 2 GiB.
_BYTES_AT_ONCE = 1 << 28
# Files of the state folder: contents that were cleaned now, and those that the cache gets.
_CLEANED = "cleaned.arrow"
_REMEMBERED = "remembered.arrow"
# Suffix of the key of the contents that came since the others were written.
_SINCE = "s"
# Share of the contents that may have come or gone before all of them are written again.
_REWRITE_SHARE = 1 / 8
# Contents that are hashed, and cleaned in one task, at a time.
_ROWS_PER_DIGEST = 20_000
_BYTES_PER_DIGEST = 1 << 24

Rows = NDArray[np.int64]
Bands = NDArray[np.uint64]


@dataclass(frozen=True)
class UniqueRows:
    """Cleaned unique contents of the raw table.

    Args:
        contents: of `unique_rows_schema`; it may be mapped from a file.
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
        return take(self.contents[name], self.content_of[rows])

    def where(self, name: str, value: str) -> Rows:
        """Return the raw rows that have a value in a column.

        Args:
            name: of the column of `contents`.
            value: of the column.
        """
        equal = pc.equal(self.contents[name], value)
        matches = equal.to_numpy(zero_copy_only=False)
        return np.flatnonzero(matches[self.content_of])

    def codes(self, name: str, rows: Rows) -> Rows:
        """Return (rows,) a column for some raw rows as whole numbers; a missing value is -1.

        Equal values have equal numbers, whatever rows are asked for.

        Args:
            name: of the column of `contents`.
            rows: raw rows.
        """
        return self.coded(name, rows)[0]

    def coded(self, name: str, rows: Rows) -> tuple[Rows, pa.Array]:
        """Return a column for some raw rows as whole numbers, and the values by number.

        Equal values have equal numbers. A missing value is -1.

        Args:
            name: of the column of `contents`.
            rows: raw rows.

        Returns:
            (rows,) numbers; the values.
        """
        column = self.contents[name]
        # Chunks that are encoded one by one would each have a dictionary of all before them.
        encoded = pa.concat_arrays([pa.array([], column.type), *column.chunks]).dictionary_encode()
        numbers = encoded.indices.fill_null(-1).to_numpy()[self.content_of[rows]]
        return numbers.astype(np.int64), encoded.dictionary

    def values(self, name: str, rows: Rows, kind: pa.DataType) -> pa.ChunkedArray:
        """Return the cleaned values of some raw rows.

        Chunks are those of `windows`, so that their offsets fit into 32 bits.

        Args:
            name: of an input column.
            rows: raw rows.
            kind: type of the values.
        """
        column = self.contents[f"value.{name}"]
        chunks = []
        for window in self.windows(rows):
            chunks.append(take(column, self.content_of[window]).cast(kind))
        return pa.chunked_array(chunks, kind)

    def windows(self, rows: Rows) -> Iterator[Rows]:
        """Yield parts of raw rows: of a shard, or of less where values are large.

        Args:
            rows: raw rows.
        """
        names = [name for name in self.contents.column_names if name.startswith("value.")]
        size = sum(self.contents[name].nbytes for name in names)
        rows_in_bytes = _BYTES_AT_ONCE * self.contents.num_rows // max(1, size)
        yield from windows(rows, max(1, min(ROWS_PER_SHARD, rows_in_bytes)))

    def value(self, name: str, row: int) -> Any:
        """Return the cleaned value of one raw row.

        Args:
            name: of an input column.
            row: raw row.
        """
        return self.contents[f"value.{name}"][int(self.content_of[row])].as_py()

    def changes(self, rows: Rows) -> Iterator[tuple[str, int]]:
        """Yield what cleaning took from contents, as JSON, and how many of some raw rows have it.

        Args:
            rows: raw rows.
        """
        counts = np.bincount(self.content_of[rows], minlength=self.contents.num_rows)
        column = self.contents["changes"]
        is_changed = column.is_valid().to_numpy(zero_copy_only=False)
        changed = np.flatnonzero(is_changed & (counts > 0))
        for window in windows(changed, ROWS_PER_SHARD):
            for position, change in zip(window, take(column, window).to_pylist(), strict=True):
                yield change, int(counts[position])

    def bands(self, name: str, rows: Rows, file: Path | None = None) -> tuple[Rows, Bands]:
        """Return the signatures of an input column.

        Args:
            name: of the column.
            rows: raw rows.
            file: to which the signatures are written and from which they are mapped. None: they
                are in memory.

        Returns:
            (n,) positions among `rows` that have a signature; (bands, n) of them.
        """
        column = self.contents[f"bands.{name}"]
        has_bands = column.is_valid().to_numpy(zero_copy_only=False)
        positions = np.flatnonzero(has_bands[self.content_of[rows]])
        bands: Bands | None = None
        first = 0
        for window in windows(self.content_of[rows[positions]], ROWS_PER_SHARD):
            part = _as_bands(take(column, window))
            if bands is None:
                shape = (part.shape[1], len(positions))
                if file is None or not part.size:
                    bands = np.empty(shape, np.uint64)
                else:
                    bands = _mapped(file, shape)
            bands[:, first : first + len(part)] = part.T
            first += len(part)
        if bands is None:
            bands = np.empty((0, 0), np.uint64)
        return positions, bands


def _mapped(file: Path, shape: tuple[int, int]) -> Bands:
    """Return an array that is mapped from a new file, which has no name any more.

    Args:
        file: new.
        shape: of the array.

    Raises:
        OSError: the disk is full. Without its blocks, the file would end the process by a signal
            when it is written to.
    """
    bands = np.lib.format.open_memmap(file, "w+", np.uint64, shape)
    with file.open("r+b") as stream:
        file.unlink()
        os.posix_fallocate(stream.fileno(), 0, os.fstat(stream.fileno()).st_size)
    return bands


def _as_bands(signatures: pa.LargeBinaryArray) -> Bands:
    """Return (n, bands) the signatures of a column of bytes without missing values."""
    _, offsets_buffer, data_buffer = signatures.buffers()
    offsets = np.frombuffer(offsets_buffer, np.int64)
    first = offsets[signatures.offset]
    last = offsets[signatures.offset + len(signatures)]
    data = np.frombuffer(data_buffer or b"", np.uint8)[first:last].view(np.uint64)
    if not len(data):
        return np.empty((len(signatures), 0), np.uint64)
    return data.reshape(len(signatures), -1)


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
    cached = pa.concat_tables([main, since])

    rows = raw.select(content(schema))
    codes, digests = _distinct(rows)
    matches = pc.index_in(digests, value_set=cached["content"])
    content_of = matches.fill_null(-1).to_numpy().astype(np.int64)
    new = np.flatnonzero(content_of < 0)
    cleaned = _clean_new(job, schema, rows, codes, digests, new)
    content_of[new] = cached.num_rows + np.arange(len(new))
    contents = pa.concat_tables([cached, write_mapped(cleaned, columns, job.state / _CLEANED)])
    _remember(job, cache, key, contents, np.sort(content_of), main.num_rows)
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
) -> Iterator[pa.Table]:
    """Yield the cleaned contents that the cache has not, part by part.

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
    start = 0
    for table in _clean(job, schema, rows, cuts):
        content_digests = digests.take(pa.array(new[start : start + table.num_rows]))
        start += table.num_rows
        yield table.add_column(0, content_field, content_digests)


def _remember(
    job: Job,
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
        job: clean.
        cache: the cache.
        key: of the contents.
        contents: cached and new ones.
        used: ascending, those that the source has now.
        main: number of contents that were written at once.
    """
    since = used[used >= main]
    gone = main - (len(used) - len(since))
    if len(since) + gone > main * _REWRITE_SHARE:
        cache.put(key, [_copy(contents, used, job.state / _REMEMBERED)])
        since = since[:0]
    cache.put(key + _SINCE, [_copy(contents, since, job.state / (_REMEMBERED + _SINCE))])


def _copy(contents: pa.Table, rows: Rows, file: Path) -> pa.Table:
    """Return some rows of the contents, mapped from a file where they are not all of them.

    Args:
        contents: of any rows.
        rows: ascending.
        file: to which they are written.
    """
    if len(rows) == contents.num_rows:
        return contents
    parts = (take_rows(contents, window) for window in windows(rows, ROWS_PER_TASK))
    return write_mapped(parts, contents.schema, file)


def _clean(
    job: Job,
    schema: base.Schema,
    rows: pa.Table,
    cuts: Sequence[Rows],
) -> Iterator[pa.Table]:
    """Yield the cleaned parts.

    Args:
        job: whose journal shows the progress.
        schema: of the pipeline.
        rows: all of them.
        cuts: ascending positions, one array a part; a part is built when its turn comes.
    """
    params = row_wise(schema, job.params)
    ready = 0
    total = sum(len(cut) for cut in cuts)
    inputs = (
        CleanInput(job.task, schema.chosen, params, job.seed, take_rows(rows, cut)) for cut in cuts
    )
    tables: Iterable[pa.Table]
    if len(cuts) > 1:
        tables = parallel_map(clean_piece, inputs)
    else:
        # One part is cleaned here: a task of its own would only be started and waited for.
        tables = map(clean_piece, inputs)
    for table in tables:
        ready += table.num_rows
        job.journal.progress(rows.num_rows - total + ready, rows.num_rows, "rows")
        yield table


def _distinct(rows: pa.Table) -> tuple[Rows, pa.Array]:
    """Return the number of each row's content, and the SHA-256 of the contents by number.

    Contents are numbered in the order of their first rows.

    Args:
        rows: the columns of the raw table that cleaning reads.

    Returns:
        (rows,) numbers of contents; (contents,) SHA-256 as 32 bytes.
    """
    step = _rows_per_digest(rows)
    digests = np.empty((rows.num_rows, 32), np.uint8)
    for start in range(0, rows.num_rows, step):
        digests[start : start + step] = _digests(rows.slice(start, step))
    buffers = [None, pa.py_buffer(digests)]
    values = pa.Array.from_buffers(pa.binary(32), rows.num_rows, buffers)
    coded = values.dictionary_encode()
    return coded.indices.to_numpy().astype(np.int64), coded.dictionary


def _rows_per_digest(rows: pa.Table) -> int:
    """Return how many rows are hashed at a time."""
    rows_in_bytes: int = _BYTES_PER_DIGEST * rows.num_rows // max(1, rows.nbytes)
    return max(1, min(_ROWS_PER_DIGEST, rows_in_bytes))


def _digests(rows: pa.Table) -> NDArray[np.uint8]:
    """Return (rows, 32) the SHA-256 of each row's content."""
    parts: list[pa.Array] = []
    for column in rows.columns:
        data = _as_bytes(column.combine_chunks())
        # Each value follows its length, so that no two rows look alike. A missing value is not
        # an empty one.
        length = pc.binary_length(data).cast(pa.string()).fill_null("-")
        parts.append(length.cast(pa.large_binary()))
        parts.append(data.fill_null(b""))
    separator = pa.scalar(b":", pa.large_binary())
    joined = pc.binary_join_element_wise(*parts, separator)
    digests = b"".join(hashlib.sha256(value).digest() for value in joined.to_pylist())
    return np.frombuffer(digests, np.uint8).reshape(-1, 32)


def _as_bytes(values: pa.Array) -> pa.Array:
    """Return values as bytes: numbers as their shortest exact text."""
    if not pa.types.is_binary(values.type) and not pa.types.is_large_binary(values.type):
        values = values.cast(pa.large_string())
    return values.cast(pa.large_binary())
