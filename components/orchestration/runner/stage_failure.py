"""How a stage failed, kept for `gristmill run`: DVC passes on neither the exit code nor the kind of error."""

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
    """Note how the block fails."""
    try:
        yield
    except BaseException as error:
        code = _exit_code(error)
        with suppress(Exception):  # a full disk must not hide the error itself
            write_atomic(
                _path(root),
                to_json(
                    {
                        "run": os.environ.get("GRISTMILL_RUN", ""),
                        "stage": stage,
                        "params": params,
                        "exit_code": code,
                    }
                ),
            )
        raise


def _exit_code(error: BaseException) -> int:
    if isinstance(error, GristmillError):
        return error.exit_code
    if isinstance(error, KeyboardInterrupt):
        return 130
    return 1 if disk_fault(error) is None else EnvironmentFault.exit_code


def last_failure(root: Path, run: str) -> dict[str, Any] | None:
    """What the failed stage of this run noted, if one did."""
    try:
        facts: dict[str, Any] = json.loads(_path(root).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return facts if facts.get("run") == run else None
