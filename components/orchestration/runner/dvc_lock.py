"""Save and restore `dvc.lock`: a kill may cut it off while `dvc repro` writes it."""

from __future__ import annotations

import json
import time
from pathlib import Path

from components.core.files import copy
from components.orchestration.pipeline_params import Params
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


def discard_broken_rwlock(root: Path) -> None:
    """Delete DVC's note of running processes if a kill cut it off: DVC would refuse every command.

    Args:
        root: of the project.
    """
    path = root / _RWLOCK
    if not path.is_file() or _is_json(path):
        return
    # A process of DVC may be writing it.
    time.sleep(_WRITTEN_S)
    if path.is_file() and not _is_json(path):
        path.unlink()


def _is_json(path: Path) -> bool:
    try:
        json.loads(path.read_bytes())
    except ValueError:
        return False
    return True


def _files(root: Path, params: Params) -> tuple[Path, Path]:
    """Return the paths of the lock and of its copy."""
    lock = (root / params.pipeline.params).with_name(_LOCK)
    saved = root / params.pipeline.data / STATE / _LOCK
    return lock, saved


def _is_cut_off(lock: Path) -> bool:
    """Return whether the last line has no line break. DVC writes one after every line."""
    return not lock.read_bytes().endswith(b"\n")
