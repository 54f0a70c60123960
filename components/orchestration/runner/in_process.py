"""Stages on little data run in their own process: for a few hundred rows, Ray's start takes longer
than the work.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil

from components.core.errors import InputError
from components.core.job import Job
from components.core.tables import MANIFEST, read_manifest
from components.orchestration.pipeline_params import Params
from components.orchestration.stage_files import STAGES

# A source has no rows before it is read: so many bytes count as one.
_BYTES_PER_ROW = 1000
# These follow on each other, and the stage `serve` behind them needs Ray: it starts meanwhile.
_EARLY = ("train", "evaluate")


def runs_in_process(params: Params, stage: str, data: Path, root: Path) -> bool:
    """Return whether a stage does without Ray.

    It depends on params and data alone, and the outputs have the same bytes either way.

    Args:
        params: of the pipeline.
        stage: its name.
        data: the pipeline's data folder.
        root: of the project, from which the source's path counts.
    """
    limit = params.cluster.in_process_rows
    if os.environ.get("RAY_ADDRESS") or params.cluster.storage or not limit or stage == "serve":
        return False
    sections: Any = params.sections
    if stage == "tune":
        return not sections["tune"].trials
    if stage == "compress" and not _recipes(sections["compress"]):
        return True
    if stage in ("train", "compress") and sections["train"].workers > 1:
        return False
    rows = (
        _source_rows(sections["ingest"].source, root, limit)
        if stage == "ingest"
        else _input_rows(stage, data)
    )
    return rows is not None and rows <= limit


def start_ray_early(stage: str, root: Path, owner: psutil.Process) -> None:
    """Begin to start Ray while a stage works that needs none, for the stage that will.

    It ends with its owner, as if that stage had started it.
    """
    if stage not in _EARLY or owner.pid == os.getpid():
        return
    words = [
        sys.executable,
        "-m",
        "components.orchestration.runner.in_process",
        str(root),
        json.dumps(owner.pid),
    ]
    subprocess.Popen(
        words,
        cwd=root,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def execute_here(job: Job) -> None:
    """Run the component.

    Libraries that it loads have one thread, as Ray gives them in the task of a stage.
    """
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    importlib.import_module(f"components.stages.{job.stage}.stage").run(job)


def _recipes(section: Any) -> list[str]:
    return [name for name in ("prune", "quantize", "distill") if getattr(section, name) is not None]


def _input_rows(stage: str, data: Path) -> int | None:
    """Return the rows of the largest table that a stage reads; None if there is none to be read."""
    folders = [data / path for path in STAGES[stage].inputs.values()]
    try:
        counts = [
            read_manifest(folder).get("rows") for folder in folders if (folder / MANIFEST).is_file()
        ]
    except InputError:
        return None
    return max((count for count in counts if isinstance(count, int)), default=None)


def _source_rows(source: Any, root: Path, limit: int) -> int | None:
    """Return about how many rows files hold, by their size; None for a source that is no file, or
    more than `limit`.
    """
    if source.kind != "files":
        return None
    size, most = 0, limit * _BYTES_PER_ROW
    path = root / source.path
    for file in path.rglob("*") if path.is_dir() else [path]:
        if file.is_file():
            size += file.stat().st_size
        if size > most:
            return None
    return size // _BYTES_PER_ROW


def main() -> None:
    """Start Ray for an owner, of which the arguments tell."""
    from components.orchestration.cluster.local_cluster import start

    start(Path(sys.argv[1]), psutil.Process(json.loads(sys.argv[2])))


if __name__ == "__main__":
    main()
