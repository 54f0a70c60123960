"""Files appear whole or not at all."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from components.core.errors import EnvironmentFault
from components.core.files import write_atomic


def content(root: Path) -> dict[str, str]:
    """All files below a folder."""
    return {
        str(path.relative_to(root)): path.read_text()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def test_a_full_disk_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "fitted.json"
    write_atomic(path, "old")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(
        EnvironmentFault, match=r"fitted.json: cannot be written: No space left"
    ) as caught:
        write_atomic(path, "new")
    assert caught.value.exit_code == 4
    assert content(tmp_path) == {"fitted.json": "old"}


def test_a_folder_that_cannot_be_made_is_a_fault_of_the_environment(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(EnvironmentFault, match="cannot be written"):
        write_atomic(tmp_path / "file" / "below" / "it.json", "new")


def test_text_is_written_as_utf8_and_folders_are_made(tmp_path: Path) -> None:
    write_atomic(tmp_path / "数据 a" / "b.txt", "好评")
    assert (tmp_path / "数据 a" / "b.txt").read_bytes() == "好评".encode()
