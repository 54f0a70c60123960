"""Which errors are those of a disk, whatever library raises them."""

from __future__ import annotations

import errno
import os
import sqlite3
from pathlib import Path

import pytest

from components.core.errors import EnvironmentFault, InputError
from components.orchestration.disk_faults import check_writable, disk_fault


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device", "/data/raw"),
        OSError(errno.EROFS, "Read-only file system", "/data/raw"),
        PermissionError(errno.EACCES, "Permission denied", "/data/raw"),
        sqlite3.OperationalError("attempt to write a readonly database"),
        RuntimeError("I/O error: No space left on device (os error 28)"),
        EnvironmentFault("cannot be written: No space left on device", where="/data/raw"),
    ],
)
def test_errors_of_a_disk_are_faults_of_the_machine(error: Exception) -> None:
    wrapped = ValueError("something went wrong")
    wrapped.__cause__ = error
    for each in (error, wrapped):
        fault = disk_fault(each)
        assert fault is not None and fault.exit_code == 4
        assert "\n" not in fault.what
        if isinstance(error, OSError):
            assert fault.where == "/data/raw" and error.strerror in fault.what


@pytest.mark.parametrize(
    "error",
    [
        ValueError("a mistake of ours"),
        FileNotFoundError(errno.ENOENT, "No such file or directory", "/data/raw"),
        InputError("is missing"),
    ],
)
def test_other_errors_are_not(error: Exception) -> None:
    error.__context__ = error
    assert disk_fault(error) is None


def test_a_folder_is_tried_and_left_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_writable(tmp_path / "data")
    assert not list((tmp_path / "data").iterdir())

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(EnvironmentFault, match="No space left"):
        check_writable(tmp_path / "data")
    assert not list((tmp_path / "data").iterdir())
