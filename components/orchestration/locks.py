"""Locks between processes, which the kernel releases when their holder ends, however it ends."""

from __future__ import annotations

import fcntl
import json
import os
import shlex
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from components.core.errors import EnvironmentFault

_POLL_S = 0.1
# Characters of a command in a message.
_LONGEST = 160
# File descriptors of the locks that this process holds.
_held: set[int] = set()


def _close_held() -> None:
    for handle in _held:
        os.close(handle)
    _held.clear()


# A started program does not get the descriptor (close-on-exec). A forked child would get it, and
# would keep the lock after its parent has ended.
os.register_at_fork(after_in_child=_close_held)


@contextmanager
def only_one(path: Path, what: str, wait: float = 0.0) -> Iterator[None]:
    """Hold a lock while the block runs.

    Args:
        path: the lock file; it stays behind, empty.
        what: the action that the lock protects, for a message, such as "stage train".
        wait: seconds to wait for another holder.

    Raises:
        EnvironmentFault: another process holds it; the message names the process.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    _held.add(handle)
    try:
        _acquire(handle, path, what, wait)
        holder = {"pid": os.getpid(), "command": this_command(), "since": time.time()}
        _write(handle, json.dumps(holder))
        yield
        _write(handle, "")
    finally:
        # A forked child has closed its descriptor already.
        if handle in _held:
            _held.discard(handle)
            os.close(handle)


def this_command() -> str:
    """Return the command line of this process, cut to the length of a message."""
    program = Path(sys.argv[0]).name.replace("__main__.py", "gristmill")
    return shlex.join([program, *sys.argv[1:]])[:_LONGEST]


def _acquire(handle: int, path: Path, what: str, wait: float) -> None:
    """Lock an open file.

    Raises:
        EnvironmentFault: another process holds the lock, or the file system has no locks.
    """
    deadline = time.monotonic() + wait
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise EnvironmentFault(
                    f"{what} is under way already: {_holder(path)}",
                    remedy="wait for it or end it, then run the same command again",
                ) from None
        except OSError as error:
            raise EnvironmentFault(
                f"cannot be locked: {error.strerror}",
                where=str(path),
                remedy="keep the project on a file system with locks (a local disk, or NFS 4)",
            ) from error
        time.sleep(_POLL_S)


def _write(handle: int, text: str) -> None:
    # On a full disk the lock works without the name of its holder.
    with suppress(OSError):
        os.ftruncate(handle, 0)
        os.pwrite(handle, text.encode("utf-8"), 0)


def _holder(path: Path) -> str:
    """Return the holder of a lock, for a message."""
    try:
        holder = json.loads(path.read_text(encoding="utf-8"))
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(holder["since"]))
        return f"process {holder['pid']} ({holder['command']}), since {since}"
    except (OSError, ValueError, KeyError):
        return "another process, which has just begun or ended"
