"""A dvc.lock that a kill has cut off comes back as it was."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from dvc.fs import localfs
from dvc.lock import LockError
from dvc.rwlock import rwlock

from components.orchestration.pipeline_params import load
from components.orchestration.processes import wait_until
from components.orchestration.runner.dvc_lock import (
    repair_rwlock,
    restore_lock,
    save_lock,
)

PARAMS = load(Path(__file__).resolve().parents[3] / "params.yaml")
WHOLE = "schema: '2.0'\nstages:\n  ingest:\n    cmd: a\n"


@pytest.mark.parametrize("left", [0, 10, len(WHOLE) - 1])
def test_a_lock_that_is_cut_off_comes_back(tmp_path: Path, left: int) -> None:
    lock = tmp_path / "dvc.lock"
    lock.write_text(WHOLE)
    save_lock(tmp_path, PARAMS)
    lock.write_text(WHOLE[:left])
    # The copy of a stage that starts now would be half a lock: it stays as it is.
    save_lock(tmp_path, PARAMS)
    assert restore_lock(tmp_path, PARAMS)
    assert lock.read_text() == WHOLE
    assert not restore_lock(tmp_path, PARAMS)


def test_a_lock_that_is_whole_is_left_alone(tmp_path: Path) -> None:
    lock = tmp_path / "dvc.lock"
    assert not restore_lock(tmp_path, PARAMS)
    lock.write_text(WHOLE)
    save_lock(tmp_path, PARAMS)
    lock.write_text(f"{WHOLE}<<<<<<< a merge of git\n")
    assert not restore_lock(tmp_path, PARAMS)
    assert "<<<" in lock.read_text()


def test_without_a_copy_only_an_empty_lock_goes(tmp_path: Path) -> None:
    lock = tmp_path / "dvc.lock"
    lock.write_text("a person's text")
    assert not restore_lock(tmp_path, PARAMS) and lock.is_file()
    lock.write_text("")
    assert restore_lock(tmp_path, PARAMS) and not lock.exists()


@pytest.mark.parametrize(
    ("text", "stays"), [("", False), ('{"data/raw": {"re', False), ("{}", True)]
)
def test_a_note_of_running_processes_that_is_cut_off_goes(
    tmp_path: Path, text: str, stays: bool
) -> None:
    note = tmp_path / ".dvc" / "tmp" / "rwlock"
    repair_rwlock(tmp_path)
    note.parent.mkdir(parents=True)
    note.write_text(text)
    repair_rwlock(tmp_path)
    assert note.is_file() == stays


def test_a_killed_process_that_nobody_asks_about_blocks_no_command(tmp_path: Path) -> None:
    """A zombie has a number still, so that DVC takes it for a running process."""
    note = tmp_path / ".dvc" / "tmp" / "rwlock"
    note.parent.mkdir(parents=True)
    killed = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    killed.kill()
    try:
        assert wait_until(lambda: psutil.Process(killed.pid).status() == psutil.STATUS_ZOMBIE, 60)
        ended = {"pid": killed.pid, "cmd": "dvc repro"}
        running = {"pid": os.getppid(), "cmd": "dvc repro"}
        written = {"/p/models": ended, "/p/raw": running}
        note.write_text(json.dumps({"write": written, "read": {"/p/a": [ended, running]}}))

        def lock(path: str) -> None:
            with rwlock(str(note.parent), localfs, "test", [], [path], hardlink=False):
                pass

        with pytest.raises(LockError):
            lock("/p/models")
        repair_rwlock(tmp_path)
        lock("/p/models")
        for path in ("/p/raw", "/p/a"):
            with pytest.raises(LockError):
                lock(path)
    finally:
        killed.wait()


@pytest.mark.parametrize("content", ["[]", '{"write": 7}', '{"write": {"/p": {"cmd": "x"}}}', "7"])
def test_a_note_in_another_form_is_left_to_dvc(tmp_path: Path, content: str) -> None:
    note = tmp_path / ".dvc" / "tmp" / "rwlock"
    note.parent.mkdir(parents=True)
    note.write_text(content)
    repair_rwlock(tmp_path)
    assert note.read_text() == content
