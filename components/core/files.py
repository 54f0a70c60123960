"""Files that appear whole or not at all, and their hashes."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from components.core.errors import EnvironmentFault


def sha256(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def to_json(value: Any) -> str:
    """JSON with stable order and readable Chinese: equal values give equal bytes."""
    return json.dumps(value, ensure_ascii=False, indent=2, sort_keys=True, allow_nan=False) + "\n"


def write_atomic(path: Path, content: bytes | str) -> None:
    """Write a file so that a reader or a crash never sees half of it.

    Raises:
        EnvironmentFault: the disk is full or not writable.
    """
    with atomic(path) as stream:
        stream.write(content.encode("utf-8") if isinstance(content, str) else content)


@contextmanager
def atomic(path: Path) -> Iterator[BinaryIO]:
    """A stream whose bytes become the file when the block ends well: a sibling, fsync, rename.

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
        cause = (
            error.__context__ if isinstance(error, RuntimeError) else error
        )  # torch.save stumbles over a stream that failed, and raises its own
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
    """Delete a folder that lies inside another one. Of a link only the link is deleted.

    Args:
        folder: what to delete; nothing happens if it does not exist.
        within: the folder that it must lie in, once all links and `..` are resolved.
        ignore_errors: leave what cannot be deleted, and say nothing.

    Raises:
        ValueError: it lies elsewhere; nothing was deleted.
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
    """fsync every file below a folder, so that the rename that follows publishes bytes and not promises."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as stream:
                os.fsync(stream.fileno())


@contextmanager
def staged(targets: dict[str, Path], scratch: Path) -> Iterator[dict[str, Path]]:
    """Give each target a temporary twin; on a clean exit they are synced and renamed into place, else nothing changes.

    Args:
        targets: name -> final path (file or folder).
        scratch: a folder on the same file system, emptied before and after.
    """
    remove_tree(scratch, within=scratch.parent)
    scratch.mkdir(parents=True)
    twins = {name: scratch / name / path.name for name, path in targets.items()}
    for twin in twins.values():
        twin.parent.mkdir()
    try:
        yield twins
        missing = [str(targets[name]) for name, twin in twins.items() if not twin.exists()]
        if missing:
            raise RuntimeError(f"the stage did not write {', '.join(missing)}")
        sync_tree(scratch)
        _publish([(twin, targets[name], scratch / f"{name}.old") for name, twin in twins.items()])
    finally:
        remove_tree(scratch, within=scratch.parent)


def _publish(moves: list[tuple[Path, Path, Path]]) -> None:
    """Rename each twin to its target, the old one aside; if one cannot be, all old ones come back."""
    with ExitStack() as undo:
        for twin, target, old in moves:
            target.parent.mkdir(parents=True, exist_ok=True)
            if os.path.lexists(target):
                target.replace(old)
                undo.callback(old.replace, target)
            twin.replace(target)
            undo.callback(target.replace, twin)
        undo.pop_all()
