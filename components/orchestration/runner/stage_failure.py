"""Record of how a stage failed, for `gristmill run`.

DVC passes on neither the exit code nor the kind of error.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from components.core.errors import EnvironmentFault, GristmillError
from components.core.files import to_json, write_atomic
from components.orchestration.disk_faults import disk_fault


def _path(root: Path) -> Path:
    return root / "data" / ".state" / "failure.json"


@contextmanager
def remembered(root: Path, params: str, stage: str) -> Iterator[None]:
    """Write how the block fails to a file, where it fails.

    Args:
        root: of the project.
        params: path of the params file.
        stage: its name.
    """
    try:
        yield
    except BaseException as error:
        failure = {
            "run": os.environ.get("GRISTMILL_RUN", ""),
            "stage": stage,
            "params": params,
            "exit_code": _exit_code(error),
        }
        # A full disk must not hide the error itself.
        with suppress(Exception):
            write_atomic(_path(root), to_json(failure))
        raise


def _exit_code(error: BaseException) -> int:
    if isinstance(error, GristmillError):
        return error.exit_code
    if isinstance(error, KeyboardInterrupt):
        return 130
    if disk_fault(error) is not None:
        return EnvironmentFault.exit_code
    return 1


def last_failure(root: Path, run: str) -> dict[str, Any] | None:
    """Return the failure that a stage of a run recorded; None if there is none.

    Args:
        root: of the project.
        run: token of the run.
    """
    try:
        failure: dict[str, Any] = json.loads(_path(root).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return failure if failure.get("run") == run else None
