"""`dvc.lock` after a kill: `dvc repro` empties the file before it writes it anew."""

from __future__ import annotations

from pathlib import Path

from components.core.files import copy
from components.orchestration.pipeline_params import Params
from components.orchestration.project import STATE

_LOCK = "dvc.lock"


def save_lock(root: Path, params: Params) -> None:
    """Copy the lock of a pipeline, which is whole while a stage runs.

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
    """Put the copy in the place of a lock that is cut off. Returns whether that was necessary.

    Without a copy an empty lock goes: DVC takes results from its cache, or runs the stages again.

    Args:
        root: of the project.
        params: of the pipeline.

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
    lock = (root / params.pipeline.params).with_name(_LOCK)
    return lock, root / params.pipeline.data / STATE / _LOCK


def _is_cut_off(lock: Path) -> bool:
    """Return whether the last line has no end; DVC ends each of them."""
    return not lock.read_bytes().endswith(b"\n")
