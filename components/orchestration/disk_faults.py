"""Recognize disks that are full, read-only or not accessible: faults of the machine."""

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
# Libraries in C and Rust, SQLite and Ray pass on the message without the error number.
_TEXTS = re.compile(
    r"no space left on device|disk quota exceeded|read-only file system|file too large"
    r"|database or disk is full|attempt to write a readonly database"
    r"|unable to open database file|disk i/o error|no usable temporary directory",
    re.IGNORECASE,
)
# Characters of a reason.
_LONGEST = 300
# Bytes of a file that is written as a test.
_PROBE_SIZE = 2**16


def disk_fault(error: BaseException) -> EnvironmentFault | None:
    """Return an error that names the file, if an error is a disk's fault; else None.

    Args:
        error: of any library. The errors that caused it count as well.
    """
    for cause in _causes(error):
        if isinstance(cause, EnvironmentFault):
            return cause
        if isinstance(cause, OSError) and cause.errno in _ERRORS:
            reason = cause.strerror or os.strerror(cause.errno)
            return _fault(reason, str(cause.filename or ""))
    for cause in _causes(error):
        match = _TEXTS.search(str(cause))
        if match:
            line = next(line for line in str(cause).splitlines() if _TEXTS.search(line))
            return _fault(line.strip()[:_LONGEST])
    return None


def check_writable(folder: Path) -> None:
    """Check that a folder can be written to, before a process starts that writes its log there.

    Args:
        folder: where the process will write.

    Raises:
        EnvironmentFault: the disk is full or not writable.
    """
    probe = folder / f".probe-{os.getpid()}"
    write_atomic(probe, bytes(_PROBE_SIZE))
    probe.unlink()


def _fault(reason: str, where: str = "") -> EnvironmentFault:
    problem = "cannot be read or written" if where else "a file cannot be written"
    return EnvironmentFault(
        f"{problem}: {reason}",
        where=where,
        remedy="free disk space, or make the disk writable; then run the same command again",
    )


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and the errors that caused it."""
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        yield cause
        cause = cause.__cause__ or cause.__context__
