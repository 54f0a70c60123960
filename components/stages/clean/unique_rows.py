"""The pool: each content of the raw table once, cleaned, and which rows have it. What earlier runs have cleaned is taken from the memo."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from components.core.cache import Cache
from components.core.job import Job
from components.core.parallel_map import parallel_map
from components.core.tables import ROWS_PER_SHARD
from components.stages.clean.cleaning import (
    Piece,
    clean_piece,
    content,
    pool_schema,
    row_wise,
    row_wise_key,
)
from components.stages.clean.params import CleanParams
from components.tasks import base

ROWS_PER_TASK = 4000
_SINCE, _FEW = (
    "s",
    1 / 8,
)  # share of the contents that may have come or gone before all of them are written again
_ROWS_PER_DIGEST, _BYTES_PER_DIGEST = (
    100_000,
    1 << 26,
)  # of contents that are laid end to end at a time


@dataclass(frozen=True)
class Pool:
    """Cleaned contents, and where each raw row finds its own."""

    contents: pa.Table  # of `pool_schema`, in one chunk
    place: NDArray[np.int64]  # (raw rows,) -> row of `contents`

    def column(self, name: str, rows: NDArray[np.int64]) -> pa.Array:
        """A column for some raw rows."""
        return _whole(self.contents[name]).take(pa.array(self.place[rows]))

    def where(self, name: str, value: str) -> NDArray[np.int64]:
        """The raw rows that have a value in a column."""
        return np.flatnonzero(
            pc.equal(_whole(self.contents[name]), value).to_numpy(zero_copy_only=False)[self.place]
        )

    def coded(self, name: str, rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], list[str]]:
        """A column for some raw rows as whole numbers, equal for equal values, and the values by number."""
        found = _whole(self.contents[name]).dictionary_encode()
        return found.indices.fill_null(-1).to_numpy()[self.place[rows]].astype(
            np.int64
        ), found.dictionary.to_pylist()

    def values(self, name: str, rows: NDArray[np.int64], kind: pa.DataType) -> pa.ChunkedArray:
        """Cleaned values of some raw rows, in chunks no longer than a shard, whose offsets fit into 32 bits."""
        column, places = _whole(self.contents[f"value.{name}"]), self.place[rows]
        cuts = range(0, len(places), ROWS_PER_SHARD)
        return pa.chunked_array(
            [column.take(pa.array(places[cut : cut + ROWS_PER_SHARD])).cast(kind) for cut in cuts],
            kind,
        )

    def changes(self, rows: NDArray[np.int64]) -> Iterator[tuple[str, int]]:
        """Yield what cleaning took from contents, as JSON, and how many of some raw rows have each of them."""
        counts = np.bincount(self.place[rows], minlength=self.contents.num_rows)
        column = _whole(self.contents["changes"])
        for place in np.flatnonzero(
            column.is_valid().to_numpy(zero_copy_only=False) & (counts > 0)
        ).tolist():
            yield column[place].as_py(), int(counts[place])

    def bands(
        self, name: str, rows: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.uint64]]:
        """Which of some raw rows (positions) have a signature in a column, and these (found, bands)."""
        column = self.column(f"bands.{name}", rows)
        found = np.flatnonzero(column.is_valid().to_numpy(zero_copy_only=False))
        full = column.drop_null()
        offsets = (
            np.frombuffer(full.buffers()[1], np.int64)[full.offset : full.offset + len(full) + 1]
            if len(full)
            else [0, 0]
        )
        data = np.frombuffer(full.buffers()[2] or b"", np.uint8)[offsets[0] : offsets[-1]]
        return found, data.view(np.uint64).reshape(len(found), -1 if len(data) else 0)


def gather(job: Job, raw: pa.Table, memo: Cache) -> Pool:
    """Clean each content of the raw table once."""
    schema, params = base.schema(job.task), row_wise(job.params)
    wanted, key = pool_schema(schema), row_wise_key(job.task, job.params, job.seed)
    main, since = (
        (memo.get(each, [wanted]) or [wanted.empty_table()])[0] for each in (key, key + _SINCE)
    )
    known = pa.concat_tables([main, since]).combine_chunks()

    rows = raw.select(content(schema))
    codes, digests = _distinct(rows)
    at = (
        pc.index_in(digests, value_set=_whole(known["content"]))
        .fill_null(-1)
        .to_numpy()
        .astype(np.int64)
    )
    new = np.flatnonzero(at < 0)
    first = np.empty(len(digests), np.int64)
    first[codes[::-1]] = np.arange(
        len(codes) - 1, -1, -1
    )  # of rows with one content the last that is written stays
    # Photos are many bytes a row: a piece ends at either number.
    step = max(1, min(ROWS_PER_TASK, _BYTES_PER_DIGEST * rows.num_rows // max(1, rows.nbytes)))
    cuts = [first[new[cut : cut + step]] for cut in range(0, len(new), step)]
    done = _clean(job, rows, cuts, params)
    fresh = [
        table.add_column(
            0, wanted.field("content"), digests.take(pa.array(new[start : start + table.num_rows]))
        )
        for start, table in done
    ]
    at[new] = known.num_rows + np.arange(len(new))
    contents = pa.concat_tables([known, *fresh]).combine_chunks()
    _remember(memo, key, contents, np.sort(at), main.num_rows)
    return Pool(contents, at[codes])


def _remember(
    memo: Cache, key: str, contents: pa.Table, used: NDArray[np.int64], main: int
) -> None:
    """Keep what is in the source now: beside the `main` contents that were written at once those that came since, as long as they, and those that are gone, are few."""
    since = used[used >= main]
    gone = main - (len(used) - len(since))
    if len(since) + gone > main * _FEW:
        memo.put(key, [contents.take(pa.array(used))])
        since = since[:0]
    memo.put(key + _SINCE, [contents.take(pa.array(since))])


def _clean(
    job: Job, rows: pa.Table, cuts: Sequence[NDArray[np.int64]], params: CleanParams
) -> list[tuple[int, pa.Table]]:
    """Return the cleaned pieces, each with the number of contents before it.

    Args:
        job: whose journal hears of progress.
        rows: all of them.
        cuts: places in `rows`, one array a piece; pieces are made when their turn comes.
        params: of each row's cleaning.
    """
    done: list[tuple[int, pa.Table]] = []
    ready = 0
    total = sum(len(cut) for cut in cuts)
    pieces = (Piece(job.task, params, job.seed, rows.take(pa.array(cut))) for cut in cuts)
    # One piece is cleaned here: a task of its own would only be started and waited for.
    for table in parallel_map(clean_piece, pieces) if len(cuts) > 1 else map(clean_piece, pieces):
        done.append((ready, table))
        ready += table.num_rows
        job.journal.progress(rows.num_rows - total + ready, rows.num_rows, "rows")
    return done


def _distinct(rows: pa.Table) -> tuple[NDArray[np.int64], pa.Array]:
    """The number of each row's content, and the contents' SHA-256 by number, in the order of their first rows."""
    step = max(1, min(_ROWS_PER_DIGEST, _BYTES_PER_DIGEST * rows.num_rows // max(1, rows.nbytes)))
    pieces = [_digests(rows.slice(start, step)) for start in range(0, rows.num_rows, step)]
    coded = pa.array(
        np.concatenate(pieces).tolist() if pieces else [], pa.binary(32)
    ).dictionary_encode()
    return coded.indices.to_numpy().astype(np.int64), coded.dictionary


def _digests(rows: pa.Table) -> NDArray[np.object_]:
    parts: list[pa.Array] = []
    for column in rows.columns:
        data = column.combine_chunks().cast(pa.large_binary())
        # Each value behind its length, so that no two rows look alike; a missing one is not an empty one.
        parts += [
            pc.binary_length(data).cast(pa.string()).fill_null("-").cast(pa.large_binary()),
            data.fill_null(b""),
        ]
    coded = pc.binary_join_element_wise(
        *parts, pa.scalar(b":", pa.large_binary())
    ).dictionary_encode()
    hashed: NDArray[np.object_] = np.empty(len(coded.dictionary), object)
    hashed[:] = [hashlib.sha256(each).digest() for each in coded.dictionary.to_pylist()]
    indices: NDArray[np.int32] = coded.indices.to_numpy()
    return hashed[indices]


def _whole(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
