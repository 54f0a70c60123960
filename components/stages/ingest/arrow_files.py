"""Arrow IPC files, as streams or with a footer, mapped into memory and checked batch by batch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from components.core.errors import InputError
from components.stages.ingest.compressed import is_compressed, read_bytes

# First bytes of a file with a footer, such as Feather.
_MAGIC = b"ARROW1"


@dataclass(frozen=True)
class ArrowFile:
    """An open file.

    Args:
        schema: of its batches.
        reader: of pyarrow, of a stream or of a file with a footer.
    """

    schema: pa.Schema
    reader: Any

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Yield the batches, in order.

        Raises:
            pa.ArrowException: a batch is damaged.
        """
        if isinstance(self.reader, pa.ipc.RecordBatchStreamReader):
            yield from self.reader
            return
        for number in range(self.reader.num_record_batches):
            yield self.reader.get_batch(number)

    def row_count(self) -> int:
        """Return the number of rows.

        Raises:
            pa.ArrowException: a batch is damaged.
        """
        return sum(batch.num_rows for batch in self.batches())


@contextmanager
def arrow_file(path: Path, where: str) -> Iterator[ArrowFile]:
    """Open a file while the block runs.

    Args:
        path: of the file, which may be compressed.
        where: what to call it in an error.

    Raises:
        InputError: it is no such file, or damaged, also where the block finds that.
    """
    try:
        content = pa.memory_map(str(path))
        if is_compressed(path):
            content = pa.BufferReader(read_bytes(path, where))
        with content:
            is_file = content.read(len(_MAGIC)) == _MAGIC
            content.seek(0)
            reader = pa.ipc.open_file(content) if is_file else pa.ipc.open_stream(content)
            yield ArrowFile(reader.schema, reader)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise InputError(
            f"is not a readable Arrow file: {error}",
            where=where,
            remedy="write it again, as Arrow IPC or as Parquet",
        ) from None
