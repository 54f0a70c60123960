"""Cleaned contents, whose values and signatures are read part by part."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from components.stages.clean import unique_rows
from components.stages.clean.unique_rows import UniqueRows

BANDS = np.arange(24, dtype=np.uint64).reshape(6, 4)
CONTENTS = UniqueRows(
    pa.table(
        {
            "value.text": pa.array([letter * 100 for letter in "abcdef"], pa.large_string()),
            "bands.text": pa.array([row.tobytes() for row in BANDS], pa.large_binary()),
        }
    ),
    np.array([5, 0, 1, 2, 3, 4, 0]),
)
ALL = np.arange(7)


def test_large_values_are_read_in_small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = CONTENTS.values("text", ALL, pa.string())
    assert whole.num_chunks == 1
    monkeypatch.setattr(unique_rows, "_BYTES_AT_ONCE", 220)
    assert [part.tolist() for part in CONTENTS.windows(ALL)] == [[0, 1], [2, 3], [4, 5], [6]]
    assert CONTENTS.values("text", ALL, pa.string()).equals(whole)


def test_signatures_in_a_file_are_those_in_memory(tmp_path: Path) -> None:
    rows, bands = CONTENTS.bands("text", ALL)
    same_rows, mapped = CONTENTS.bands("text", ALL, tmp_path / "bands.npy")
    assert (rows == same_rows).all() and (bands == mapped).all()
    assert (BANDS[CONTENTS.content_of] == bands.T).all()
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_an_error_before_a_signature_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int, offset: int, size: int) -> None:
        assert (offset, size) == (0, os.fstat(descriptor).st_size) and size >= 7 * 4 * 8
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match="No space left"):
        CONTENTS.bands("text", ALL, tmp_path / "bands.npy")
    assert list(tmp_path.iterdir()) == []
