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


class MappedWriter:
    """Writes a table to a file, part by part, and maps it.

    The file has no name any more once it is mapped, so nothing is left of it when the table is
    gone, or the process.

    Args:
        path: of the file. Its folder is created.
        schema: of the table.

    Raises:
        OSError: the disk is full or not writable.
    """

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._sink = pa.OSFile(str(path), "wb")
        self._writer = pa.ipc.new_stream(self._sink, schema)

    def write(self, table: pa.Table) -> None:
        """Add the rows of a table.

        Raises:
            OSError: the disk is full or not writable.
        """
        self._writer.write_table(table)

    def mapped(self) -> pa.Table:
        """End the file, and return its table."""
        self._writer.close()
        self._sink.close()
        (table,) = read_mapped(self._path, 1)
        self._path.unlink()
        return table


def write_mapped(tables: Iterable[pa.Table], schema: pa.Schema, path: Path) -> pa.Table:
    """Write tables one after another to a file, and return them as one mapped table.

    Args:
        tables: with the columns of the schema.
        schema: of the table.
        path: of the file (see `MappedWriter`).

    Raises:
        OSError: the disk is full or not writable.
    """
    writer = MappedWriter(path, schema)
    for table in tables:
        writer.write(table)
    return writer.mapped()


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
