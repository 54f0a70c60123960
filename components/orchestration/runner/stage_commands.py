"""Check of the commands in a pipeline's dvc.yaml: an earlier copy calls code that has moved."""

from __future__ import annotations

from pathlib import Path

from components.core.errors import InputError

_EARLIER = "python -m pipelines.cli"


def check_stage_commands(root: Path, dvc_file: Path) -> None:
    """Check that the stages of a pipeline call code that exists.

    Args:
        root: of the project.
        dvc_file: of the pipeline, below the root.

    Raises:
        InputError: the file is a copy of a dvc.yaml from before all code moved below components/.
    """
    if _EARLIER not in dvc_file.read_text(encoding="utf-8", errors="replace"):
        return
    shown = dvc_file.relative_to(root).as_posix()
    raise InputError(
        f"its stages call {_EARLIER!r}, which is now 'python -m components.cli'",
        where=shown,
        remedy=f"cp dvc.yaml {shown}; the next run computes all stages again",
    )
