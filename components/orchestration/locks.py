"""One at a time: a lock that the kernel gives back when its holder ends, however it ends."""

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
_held: set[int] = set()


def _let_go() -> None:
    for handle in _held:
        os.close(handle)
    _held.clear()


# A started program does not get the handle (close-on-exec); a mere fork would, and would keep the lock of a dead parent.
os.register_at_fork(after_in_child=_let_go)


@contextmanager
def only_one(path: Path, what: str, wait: float = 0.0) -> Iterator[None]:
    """Hold a lock while the block runs.

    Args:
        path: the lock file; it stays behind, empty.
        what: what only one may do at a time, as a person would say it ("stage train").
        wait: seconds to wait for another holder.

    Raises:
        EnvironmentFault: another process holds it; says who, and since when.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    _held.add(handle)
    try:
        _acquire(handle, path, what, wait)
        _write(
            handle,
            json.dumps({"pid": os.getpid(), "command": this_command(), "since": time.time()}),
        )
        yield
        _write(handle, "")
    finally:
        if handle in _held:  # else this is a forked child, which closed it at once
            _held.discard(handle)
            os.close(handle)


def this_command() -> str:
    """The command line of this process, short enough for a message."""
    return shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])[:160]


def _acquire(handle: int, path: Path, what: str, wait: float) -> None:
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
    with suppress(OSError):  # a full disk takes the holder's name, not the lock
        os.ftruncate(handle, 0)
        os.pwrite(handle, text.encode("utf-8"), 0)


def _holder(path: Path) -> str:
    try:
        holder = json.loads(path.read_text(encoding="utf-8"))
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(holder["since"]))
        return f"process {holder['pid']} ({holder['command']}), since {since}"
    except (OSError, ValueError, KeyError):
        return "another process, which has just begun or ended"
