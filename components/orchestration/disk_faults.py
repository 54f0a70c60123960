"""Disks that are full, read-only or closed to this user: faults of the machine, not of the code."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from pathlib import Path

from components.core.errors import EnvironmentFault
from components.core.files import write_atomic

_ERRORS = {
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EROFS,
    errno.EFBIG,
    errno.EIO,
    errno.EACCES,
    errno.EPERM,
}
# Libraries in C and Rust, SQLite and Ray pass on the words without the number.
_TEXTS = re.compile(
    r"no space left on device|disk quota exceeded|read-only file system|file too large"
    r"|database or disk is full|attempt to write a readonly database"
    r"|unable to open database file|disk i/o error|no usable temporary directory",
    re.IGNORECASE,
)
_LONGEST = 300
_PROBE = 2**16  # bytes


def disk_fault(error: BaseException) -> EnvironmentFault | None:
    """Return an error that says which file could not be written, if that is what happened.

    Args:
        error: of any library; those that caused it count.
    """
    for cause in _causes(error):
        if isinstance(cause, EnvironmentFault):
            return cause
        if isinstance(cause, OSError) and cause.errno in _ERRORS:
            return _fault(cause.strerror or os.strerror(cause.errno), str(cause.filename or ""))
    for cause in _causes(error):
        match = _TEXTS.search(str(cause))
        if match:
            line = next(line for line in str(cause).splitlines() if _TEXTS.search(line))
            return _fault(line.strip()[:_LONGEST])
    return None


def check_writable(folder: Path) -> None:
    """Refuse to start what would fail for want of room, and could not even say so in its log.

    Args:
        folder: where it will write.

    Raises:
        EnvironmentFault: the disk is full or not writable.
    """
    probe = folder / f".probe-{os.getpid()}"
    write_atomic(probe, bytes(_PROBE))
    probe.unlink()


def _fault(reason: str, where: str = "") -> EnvironmentFault:
    return EnvironmentFault(
        f"cannot be read or written: {reason}" if where else f"a file cannot be written: {reason}",
        where=where,
        remedy="free disk space, or make the disk writable; then run the same command again",
    )


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        yield cause
        cause = cause.__cause__ or cause.__context__
