"""Repair what a kill of `dvc repro` leaves: a cut-off dvc.lock, and notes of ended processes."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from components.core.files import copy, write_atomic
from components.orchestration.pipeline_params import Params
from components.orchestration.processes import identify
from components.orchestration.project import STATE

_LOCK = "dvc.lock"
# Where DVC notes which files its processes read and write. It empties the file before it writes.
_RWLOCK = Path(".dvc", "tmp", "rwlock")
# Seconds after which a file that DVC is just writing is whole.
_WRITTEN_S = 0.5


def save_lock(root: Path, params: Params) -> None:
    """Copy the lock of a pipeline. It is whole while a stage runs.

    Args:
        root: of the project.
        params: of the pipeline.

    Raises:
        EnvironmentFault: the disk is full or not writable.
    """
    lock, saved = _files(root, params)
    if lock.is_file() and not _is_cut_off(lock):
        copy(lock, saved)


def restore_lock(root: Path, params: Params) -> bool:
    """Replace a lock that is cut off by its copy.

    Without a copy, an empty lock is deleted. DVC then takes results from its cache, or runs the
    stages again.

    Args:
        root: of the project.
        params: of the pipeline.

    Returns:
        Whether that was necessary.

    Raises:
        EnvironmentFault: the disk is full or not writable.
    """
    lock, saved = _files(root, params)
    if not lock.is_file() or not _is_cut_off(lock):
        return False
    if saved.is_file():
        copy(saved, lock)
        return True
    if lock.stat().st_size:
        return False
    lock.unlink()
    return True


def repair_rwlock(root: Path) -> None:
    """Remove from DVC's note of running processes what a kill left in it.

    DVC refuses every command if the note is cut off. It also refuses if the note names a zombie: a
    killed process stays one until its parent asks for its exit status, and in a container without
    an init process nobody does.

    Args:
        root: of the project.

    Raises:
        EnvironmentFault: the disk is full or not writable.
    """
    path = root / _RWLOCK
    if not path.is_file():
        return
    if _read_rwlock(path) is None:
        # A process of DVC may be writing it.
        time.sleep(_WRITTEN_S)
    entries = _read_rwlock(path)
    if entries is None:
        path.unlink(missing_ok=True)
    elif _without_ended(entries) != entries:
        _remove_ended(root, path)


def _read_rwlock(path: Path) -> Any:
    """Return the entries of the note; None where it is cut off."""
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except ValueError:
        return None


def _remove_ended(root: Path, path: Path) -> None:
    """Remove the entries of ended processes while no process of DVC edits the note."""
    from dvc.lock import LockError, make_lock

    guard = make_lock(
        str(path.with_name("rwlock.lock")),
        tmp_dir=str(path.parent),
        hardlink_lock=has_hardlink_lock(root),
    )
    # If DVC is busy, its next command removes entries of processes that are gone by then.
    with suppress(LockError), guard:
        entries = _read_rwlock(path)
        if entries is not None:
            write_atomic(path, json.dumps(_without_ended(entries)))


def _without_ended(entries: Any) -> Any:
    """Return the entries without processes that have ended.

    Args:
        entries: {"write": {path: process}, "read": {path: [process]}}, or parts of it.
    """
    if isinstance(entries, list):
        return [_without_ended(entry) for entry in entries if _runs(entry)]
    if isinstance(entries, dict):
        return {name: _without_ended(entry) for name, entry in entries.items() if _runs(entry)}
    return entries


def _runs(process: Any) -> bool:
    """Return whether a process runs. What is no process stays, so that DVC names the mistake."""
    if not isinstance(process, dict) or not isinstance(process.get("pid"), int):
        return True
    return identify(process["pid"]) is not None


def has_hardlink_lock(root: Path) -> bool:
    """Return whether DVC's configuration wants locks that work on network file systems.

    Args:
        root: of the project.
    """
    from dvc.config import Config

    return bool(Config(str(root.resolve() / ".dvc"))["core"].get("hardlink_lock"))


def _files(root: Path, params: Params) -> tuple[Path, Path]:
    """Return the paths of the lock and of its copy."""
    lock = (root / params.pipeline.params).with_name(_LOCK)
    saved = root / params.pipeline.data / STATE / _LOCK
    return lock, saved


def _is_cut_off(lock: Path) -> bool:
    """Return whether the last line has no line break. DVC writes one after every line."""
    return not lock.read_bytes().endswith(b"\n")
