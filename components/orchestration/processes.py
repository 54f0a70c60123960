"""Processes told apart for ever: by number, boot and moment of birth, never by name."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import psutil

_PDEATHSIG = 1  # prctl(2)


class Identity(NamedTuple):
    """A process for ever: its number may be given away again, these three together may not."""

    pid: int
    boot: str
    began: int


def identify(pid: int) -> Identity | None:
    """The process that has this number now. None: no such process, or only its zombie."""
    try:
        if not sys.platform.startswith("linux"):
            process = psutil.Process(pid)
            return (
                None
                if process.status() == psutil.STATUS_ZOMBIE
                else Identity(pid, _boot(), round(process.create_time() * 100))
            )
        # Ticks since boot: psutil's create_time moves when somebody sets the clock.
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
        return None if fields[0] in "ZX" else Identity(pid, _boot(), int(fields[19]))
    except (OSError, psutil.Error):
        return None


def _boot() -> str:
    if not sys.platform.startswith("linux"):
        return ""
    # Containers of one machine share the boot but not the numbers of processes.
    return (
        Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        + "/"
        + Path("/proc/self/ns/pid").readlink().name
    )


def alive(process: Identity) -> bool:
    """Whether this very process still runs."""
    return identify(process.pid) == process


def wait_until(done: Callable[[], bool], seconds: float) -> bool:
    """Look ten times a second whether something is done. Returns whether it was, in time."""
    deadline = time.monotonic() + seconds
    while not done():
        if time.monotonic() >= deadline:
            return False
        time.sleep(0.1)
    return True


def send(process: Identity, number: signal.Signals) -> None:
    """Signal this very process; nothing happens when it has ended."""
    if alive(process):
        with suppress(ProcessLookupError, PermissionError):
            os.kill(process.pid, number)


def end_with_parent() -> None:
    """To be called in a child before its program starts: the kernel sends it SIGTERM when its parent ends, however it ends."""
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(_PDEATHSIG, signal.SIGTERM)


def family(first: Identity) -> set[Identity]:
    """A leader of a session, whoever is in that session (also after the leader has ended), and descendants that left it."""
    leader = identify(first.pid)
    if leader not in (None, first) or first.boot != _boot():
        return set()  # the number belongs to somebody else now
    pids = {pid for pid in psutil.pids() if _session(pid) == first.pid}
    for pid in list(pids):
        with suppress(psutil.Error):
            pids |= {child.pid for child in psutil.Process(pid).children(recursive=True)}
    return {found for found in map(identify, pids) if found}


def _session(pid: int) -> int:
    try:
        return os.getsid(pid)
    except (ProcessLookupError, PermissionError):
        return -1
