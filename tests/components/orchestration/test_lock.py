"""The lock: one holder, a second one that is told who, and nothing left to clean after a kill."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from components.core.errors import EnvironmentFault
from components.orchestration.locks import only_one

ROOT = Path(__file__).parents[3]
HOLD = """
import os, sys, time
from pathlib import Path
from components.orchestration.locks import only_one
with only_one(Path(sys.argv[1]), "stage train"):
    if sys.argv[2] == "fork" and os.fork() == 0:
        print(os.getpid(), flush=True)
        time.sleep(60)
        os._exit(0)
    if sys.argv[2] == "spawn":
        import subprocess
        print(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]).pid, flush=True)
    if sys.argv[2] == "alone":
        print(0, flush=True)
    time.sleep(60)
"""


def holder(path: Path, mode: str) -> tuple[subprocess.Popen[str], int]:
    """A process that holds the lock, and the child that it has made."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path), mode], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout
    return process, int(process.stdout.readline())


def test_a_second_holder_is_told_who_and_since_when(tmp_path: Path) -> None:
    # given a process that holds the lock
    process, _ = holder(tmp_path / "a.lock", "alone")
    try:
        # when another asks for it
        with pytest.raises(EnvironmentFault) as fault, only_one(tmp_path / "a.lock", "stage train"):
            pass
    finally:
        process.kill()
        process.wait()
    # then it is named, with the time and a way out
    assert f"process {process.pid}" in fault.value.what
    assert time.strftime("since %Y-%m-%d") in fault.value.what
    assert "stage train is under way already" in fault.value.what
    assert fault.value.remedy and fault.value.exit_code == 4


@pytest.mark.parametrize("mode", ["alone", "fork", "spawn"])
def test_kill_9_frees_the_lock_although_children_live_on(tmp_path: Path, mode: str) -> None:
    # given a holder, perhaps with a child
    process, child = holder(tmp_path / "a.lock", mode)
    try:
        # when the holder alone is killed
        process.kill()
        process.wait()
        # then the next one gets the lock at once
        with only_one(tmp_path / "a.lock", "stage train"):
            if child:
                os.kill(child, 0)  # it does live on
    finally:
        if child:
            os.kill(child, signal.SIGKILL)


def test_it_waits_as_long_as_it_was_told(tmp_path: Path) -> None:
    # given a holder that ends in a moment
    process, _ = holder(tmp_path / "a.lock", "alone")
    threading.Timer(0.5, process.kill).start()
    # when one waits, then it gets its turn
    with only_one(tmp_path / "a.lock", "stage train", wait=10):
        assert process.poll() is not None or process.wait(1)
        # and a third one does not, even in the same process
        with (
            pytest.raises(EnvironmentFault),
            only_one(tmp_path / "a.lock", "stage train", wait=0.2),
        ):
            pass
    # and the file says nobody's name any more
    assert (tmp_path / "a.lock").read_text() == ""


def test_it_can_be_taken_again_after_an_error(tmp_path: Path) -> None:
    for _ in range(2):
        with pytest.raises(ZeroDivisionError), only_one(tmp_path / "a.lock", "x"):
            raise ZeroDivisionError
