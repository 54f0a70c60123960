"""Write files that appear whole or not at all, and hash files."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from components.core.errors import EnvironmentFault


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def to_json(value: Any) -> str:
    """Return JSON with stable order and readable Chinese. Equal values give equal bytes."""
    return json.dumps(value, ensure_ascii=False, indent=2, sort_keys=True, allow_nan=False) + "\n"


def write_atomic(path: Path, content: bytes | str) -> None:
    """Write a file so that a reader or a crash never sees half of it.

    Raises:
        EnvironmentFault: the disk is full or not writable.
    """
    if isinstance(content, str):
        content = content.encode("utf-8")
    with atomic(path) as stream:
        stream.write(content)


@contextmanager
def atomic(path: Path) -> Iterator[BinaryIO]:
    """Yield a stream whose bytes become the file when the block ends without an error.

    They are written to a file beside it, which is synced and renamed.

    Raises:
        EnvironmentFault: the disk is full or not writable.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        part.replace(path)
    except BaseException as error:
        with suppress(OSError):
            part.unlink()
        # When a stream fails, torch.save raises an error of its own.
        cause = error.__context__ if isinstance(error, RuntimeError) else error
        if isinstance(cause, OSError):
            raise EnvironmentFault(
                f"cannot be written: {cause.strerror}",
                where=str(path),
                remedy="free disk space, then run the same command again",
            ) from error
        raise


def copy(source: Path, target: Path) -> None:
    """Copy a file, however large.

    Raises:
        EnvironmentFault: the disk is full or not writable.
    """
    with source.open("rb") as stream, atomic(target) as out:
        shutil.copyfileobj(stream, out)


def remove_tree(folder: Path, within: Path, *, ignore_errors: bool = True) -> None:
    """Delete a folder that is inside another one. Of a link only the link is deleted.

    Args:
        folder: the folder to delete. Nothing happens if it does not exist.
        within: the folder that it must be in, once all links and `..` are resolved.
        ignore_errors: leave what cannot be deleted, without an error.

    Raises:
        ValueError: it is elsewhere. Nothing was deleted.
        OSError: something cannot be deleted, and `ignore_errors` is off.
    """
    parent = folder.parent.resolve()
    if folder.name in ("", "..") or not parent.is_relative_to(within.resolve()):
        raise ValueError(f"{str(folder)!r} is not inside {str(within)!r}: nothing was deleted")
    path = parent / folder.name
    if not path.is_symlink():
        shutil.rmtree(path, ignore_errors=ignore_errors or not path.exists())
        return
    try:
        path.unlink()
    except OSError:
        if not ignore_errors:
            raise


def sync_tree(folder: Path) -> None:
    """Sync every file below a folder to the disk, before the rename that publishes it."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as stream:
                os.fsync(stream.fileno())
