"""Tables in mapped files: the rows are those that went in, and nothing of the file is left."""

from __future__ import annotations

import resource
import signal
from pathlib import Path

import limited_memory
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.core.mapped_tables import MappedWriter, take, take_rows, windows, write_mapped

ROWS = pa.table(
    {
        "text": pa.array(["好", None, "", "long " * 40], pa.large_string()),
        "key": pa.array([b"k" * 32, None, b"l" * 32, b"m" * 32], pa.binary(32)),
        "number": [0.5, None, -1.0, 2.0],
    }
)


def test_a_mapped_table_has_the_rows_that_were_written_and_its_file_no_name(
    tmp_path: Path,
) -> None:
    path = tmp_path / "folder" / "rows.arrow"
    mapped = write_mapped([ROWS, ROWS.slice(2), ROWS.slice(0, 0)], ROWS.schema, path)
    assert mapped.equals(pa.concat_tables([ROWS, ROWS.slice(2)]))
    assert list(path.parent.iterdir()) == []
    # A file of the same name is another one, so tables that were mapped before keep their rows.
    assert write_mapped([], ROWS.schema, path).num_rows == 0
    assert mapped.num_rows == 6 and mapped["text"][5].as_py() == ROWS["text"][3].as_py()


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.integers(0, 5), min_size=1, max_size=6),
    st.data(),
)
def test_taken_rows_are_those_of_the_joined_table(sizes: list[int], data: st.DataObject) -> None:
    chunks = [ROWS.slice(0, size) for size in sizes]
    table = pa.concat_tables(chunks)
    numbers = st.lists(st.integers(0, max(0, table.num_rows - 1)), max_size=12)
    rows = np.array(data.draw(numbers) if table.num_rows else [], np.int64)
    expected = table.combine_chunks().take(pa.array(rows))
    assert take_rows(table, rows).equals(expected)
    assert take(table["text"], rows).to_pylist() == expected["text"].to_pylist()


def test_windows_are_all_rows_in_their_order() -> None:
    parts = list(windows(np.arange(7), 3))
    assert [part.tolist() for part in parts] == [[0, 1, 2], [3, 4, 5], [6]]
    assert list(windows(np.arange(0), 3)) == []


def test_a_full_disk_is_an_error_of_the_disk(tmp_path: Path) -> None:
    before, handler = (
        resource.getrlimit(resource.RLIMIT_FSIZE),
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN),
    )
    writer = MappedWriter(tmp_path / "rows.arrow", ROWS.schema)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, before[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            writer.write(pa.concat_tables([ROWS] * 5000).combine_chunks())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


MAPPED = """
import sys
from pathlib import Path
import numpy as np, pyarrow as pa
from components.core.mapped_tables import take, write_mapped

limit(192)
part = pa.table({"text": pa.array(["x" * 1000] * 4000, pa.large_string())})
table = write_mapped((part for _ in range(100)), part.schema, Path(sys.argv[1]))
assert take(table["text"], np.arange(0, table.num_rows, 100)).nbytes > 4_000_000
try:
    table.combine_chunks()
except (MemoryError, pa.ArrowMemoryError):
    print("would not fit")
"""


def test_a_table_larger_than_the_memory_is_written_and_read(tmp_path: Path) -> None:
    # 400 MB, where the process may have 192 MiB.
    assert limited_memory.output(MAPPED, str(tmp_path / "rows.arrow")) == "would not fit\n"
