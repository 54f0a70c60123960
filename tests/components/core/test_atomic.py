"""Files appear whole or not at all."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from components.core.errors import EnvironmentFault
from components.core.files import staged, write_atomic


@pytest.fixture
def targets(tmp_path: Path) -> dict[str, Path]:
    """A folder and a file that an earlier run left."""
    (tmp_path / "data" / "clean").mkdir(parents=True)
    (tmp_path / "data" / "clean" / "old.parquet").write_text("old")
    (tmp_path / "data" / "report.json").write_text("old")
    return {"clean": tmp_path / "data" / "clean", "report": tmp_path / "data" / "report.json"}


def content(root: Path) -> dict[str, str]:
    """All files below a folder."""
    return {
        str(path.relative_to(root)): path.read_text()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


OLD = {"data/clean/old.parquet": "old", "data/report.json": "old"}


def test_a_clean_exit_publishes_folders_and_files_and_leaves_no_scratch(
    tmp_path: Path, targets: dict[str, Path]
) -> None:
    with staged(targets, tmp_path / "scratch") as twins:
        twins["clean"].mkdir()
        (twins["clean"] / "new.parquet").write_text("new")
        twins["report"].write_text("new")
        assert content(tmp_path / "data") == {
            "clean/old.parquet": "old",
            "report.json": "old",
        }  # nothing shows before the end
    assert content(tmp_path) == {"data/clean/new.parquet": "new", "data/report.json": "new"}


def test_an_exception_inside_publishes_nothing(tmp_path: Path, targets: dict[str, Path]) -> None:
    with pytest.raises(KeyError), staged(targets, tmp_path / "scratch") as twins:
        twins["clean"].mkdir()
        twins["report"].write_text("new")
        raise KeyError("in the stage")
    assert content(tmp_path) == OLD


def test_an_output_that_was_not_written_publishes_nothing(
    tmp_path: Path, targets: dict[str, Path]
) -> None:
    with (
        pytest.raises(RuntimeError, match=r"did not write .*clean"),
        staged(targets, tmp_path / "scratch") as twins,
    ):
        twins["report"].write_text("new")
    assert content(tmp_path) == OLD


def test_a_target_that_cannot_be_replaced_brings_the_others_back(
    tmp_path: Path, targets: dict[str, Path]
) -> None:
    blocked = tmp_path / "data" / "report.json" / "inside-a-file.json"
    with (
        pytest.raises(OSError),
        staged({**targets, "blocked": blocked}, tmp_path / "scratch") as twins,
    ):
        for twin in twins.values():
            twin.write_text("new")
    assert content(tmp_path) == OLD


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
