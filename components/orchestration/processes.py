"""Identities of processes: by number, boot and start time, never by name."""

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

# Of prctl(2).
_PDEATHSIG = 1
_POLL_S = 0.1


class Identity(NamedTuple):
    """Identity of a process. Another process may get its number later, but not all three fields."""

    pid: int
    boot: str
    # ticks since boot, or hundredths of a second since the epoch
    began: int


def identify(pid: int) -> Identity | None:
    """Return the identity of the process with this number; None without one, or for a zombie.

    Args:
        pid: the number.
    """
    try:
        if sys.platform.startswith("linux"):
            return _identify_by_proc(pid)
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return None
        return Identity(pid, _boot(), round(process.create_time() * 100))
    except (OSError, psutil.Error):
        return None


def _identify_by_proc(pid: int) -> Identity | None:
    """Return the identity by the start time in ticks since boot.

    The start time of psutil changes when a person sets the clock.
    """
    stat = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    # The name of the program stands in parentheses, and may hold spaces and parentheses itself.
    fields = stat.rpartition(")")[2].split()
    if fields[0] in "ZX":
        return None
    return Identity(pid, _boot(), int(fields[19]))


def _boot() -> str:
    """Return an id of the boot and of the container; "" where there is no /proc."""
    if not sys.platform.startswith("linux"):
        return ""
    # Containers of one machine share the boot but not the numbers of processes.
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    namespace = Path("/proc/self/ns/pid").readlink().name
    return f"{boot}/{namespace}"


def alive(process: Identity) -> bool:
    """Return whether exactly this process still runs."""
    return identify(process.pid) == process


def wait_until(done: Callable[[], bool], seconds: float) -> bool:
    """Wait until a condition holds, and return whether it did in time.

    Args:
        done: the condition; it is called ten times a second.
        seconds: to wait at most.
    """
    deadline = time.monotonic() + seconds
    while not done():
        if time.monotonic() >= deadline:
            return False
        time.sleep(_POLL_S)
    return True


def send(process: Identity, number: signal.Signals) -> None:
    """Send a signal to exactly this process. Nothing happens when it has ended."""
    if alive(process):
        with suppress(ProcessLookupError, PermissionError):
            os.kill(process.pid, number)


def end_with_parent() -> None:
    """Make the kernel send SIGTERM to this process when its parent ends, however that ends.

    Call it in a child before its program starts.
    """
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(_PDEATHSIG, signal.SIGTERM)


def family(first: Identity) -> set[Identity]:
    """Return all processes of a session, also after its leader has ended, and their descendants.

    Args:
        first: the leader of the session.
    """
    leader = identify(first.pid)
    # Otherwise the number belongs to another process by now.
    if leader not in (None, first) or first.boot != _boot():
        return set()
    pids = {pid for pid in psutil.pids() if _session(pid) == first.pid}
    for pid in list(pids):
        with suppress(psutil.Error):
            pids |= {child.pid for child in psutil.Process(pid).children(recursive=True)}
    return {process for process in map(identify, pids) if process}


def _session(pid: int) -> int:
    """Return the session of a process; -1 where it has ended or belongs to another user."""
    try:
        return os.getsid(pid)
    except (ProcessLookupError, PermissionError):
        return -1
