"""Save and restore `dvc.lock`: a kill may cut it off while `dvc repro` writes it."""

from __future__ import annotations

from pathlib import Path

from components.core.files import copy
from components.orchestration.pipeline_params import Params
from components.orchestration.project import STATE

_LOCK = "dvc.lock"


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


def _files(root: Path, params: Params) -> tuple[Path, Path]:
    """Return the paths of the lock and of its copy."""
    lock = (root / params.pipeline.params).with_name(_LOCK)
    saved = root / params.pipeline.data / STATE / _LOCK
    return lock, saved


def _is_cut_off(lock: Path) -> bool:
    """Return whether the last line has no line break. DVC writes one after every line."""
    return not lock.read_bytes().endswith(b"\n")
