"""Tables in files that are mapped into memory, for tables that may be larger than the memory.

The system reads a page of such a file when it is touched, and takes it back when memory is short.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

Rows = NDArray[np.int64]


def write_mapped(tables: Iterable[pa.Table], schema: pa.Schema, path: Path) -> pa.Table:
    """Write tables one after another to a file, and return them as one mapped table.

    The file is for one run: it is not synced. It may be deleted while the table is in use.

    Args:
        tables: with the columns of the schema.
        schema: of the table.
        path: of the file. Its folder is created.

    Raises:
        OSError: the disk is full or not writable.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, schema) as writer:
        for table in tables:
            writer.write_table(table)
    (mapped,) = read_mapped(path, 1)
    return mapped


def read_mapped(path: Path, count: int) -> list[pa.Table]:
    """Return the mapped tables of a file of Arrow streams.

    Args:
        path: of the file.
        count: of the streams in it.

    Raises:
        pa.ArrowException: the file holds something else.
    """
    source = pa.memory_map(str(path))
    return [pa.ipc.open_stream(source).read_all() for _ in range(count)]


def take(column: pa.ChunkedArray, rows: Rows) -> pa.Array:
    """Return the values of a column at some rows, in one array.

    `pyarrow.ChunkedArray.take` joins all chunks first, which copies the whole column.

    Args:
        column: of any table.
        rows: (n,) row numbers in any order.
    """
    if column.num_chunks == 1:
        return column.chunk(0).take(pa.array(rows))
    order = np.argsort(rows, kind="stable")
    ordered = rows[order]
    ends = np.cumsum([len(chunk) for chunk in column.chunks], dtype=np.int64)
    parts = [pa.array([], column.type)]
    begin = 0
    for chunk, end, stop in zip(
        column.chunks, ends, np.searchsorted(ordered, ends).tolist(), strict=True
    ):
        if stop > begin:
            parts.append(chunk.take(pa.array(ordered[begin:stop] - (end - len(chunk)))))
        begin = stop
    taken = pa.concat_arrays(parts)
    if (rows[1:] >= rows[:-1]).all():
        return taken
    positions = np.empty(len(rows), np.int64)
    positions[order] = np.arange(len(rows))
    return taken.take(pa.array(positions))


def take_rows(table: pa.Table, rows: Rows) -> pa.Table:
    """Return some rows of a table.

    Args:
        table: of any rows.
        rows: (n,) row numbers in any order.
    """
    columns = [take(column, rows) for column in table.columns]
    return pa.table(columns, schema=table.schema)


def windows(rows: Rows, size: int) -> Iterator[Rows]:
    """Yield consecutive parts of row numbers.

    Args:
        rows: (n,) row numbers.
        size: most numbers in a part.
    """
    for start in range(0, len(rows), size):
        yield rows[start : start + size]
