"""Run stages on little data in their DVC process, without a Ray task.

For a few hundred rows, Ray's start takes longer than the work. The stage `serve` needs Ray for its
replicas, but no second process that imports MLflow and Ray Serve.
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

# The rows of a source are not known before it is read, so they are estimated from its bytes.
_BYTES_PER_ROW = 1000
# Stages during which Ray starts, because the later stage `serve` needs it.
_EARLY = ("train", "evaluate")
# Stages that use Ray, in whichever process they run.
NEEDS_RAY = ("serve",)


def runs_in_process(params: Params, stage: str, data: Path, root: Path) -> bool:
    """Return whether a stage runs in this process, and not as a Ray task.

    It depends on params and data alone, and the outputs have the same bytes either way.

    Args:
        params: of the pipeline.
        stage: its name.
        data: the pipeline's data folder.
        root: of the project, from which the source's path counts.
    """
    limit = params.cluster.in_process_rows
    has_cluster = os.environ.get("RAY_ADDRESS") or params.cluster.storage
    if has_cluster or not limit:
        return False
    sections: Any = params.sections
    if stage == "tune":
        return not sections["tune"].trials
    if stage == "compress" and not _has_recipes(sections["compress"]):
        return True
    if stage in ("train", "compress") and sections["train"].workers > 1:
        return False
    if stage == "ingest":
        rows = _source_rows(sections["ingest"].source, root, limit)
    else:
        rows = _input_rows(stage, data)
    return rows is not None and rows <= limit


def start_ray_early(stage: str, root: Path, owner: psutil.Process) -> None:
    """Begin to start Ray while a stage works that needs none, for a later stage that does.

    Ray ends with its owner, as if the later stage had started it.

    Args:
        stage: the stage that works.
        root: of the project.
        owner: the process that Ray is started for.
    """
    if stage not in _EARLY or owner.pid == os.getpid():
        return
    module = "components.orchestration.runner.in_process"
    words = [sys.executable, "-m", module, str(root), json.dumps(owner.pid)]
    subprocess.Popen(
        words,
        cwd=root,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def execute_here(job: Job) -> None:
    """Run the component of a stage in this process.

    The libraries that it loads get one thread, as in the Ray task of a stage.

    Args:
        job: of the stage.
    """
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    importlib.import_module(f"components.stages.{job.stage}.stage").run(job)


def _has_recipes(compress: Any) -> bool:
    """Return whether the stage `compress` has a recipe that params do not switch off."""
    from components.stages.compress.params import resolved_recipes

    recipes, _ = resolved_recipes(compress)
    return bool(recipes)


def _input_rows(stage: str, data: Path) -> int | None:
    """Return the rows of the largest table that a stage reads; None without a readable one."""
    folders = [data / path for path in STAGES[stage].inputs.values()]
    tables = [folder for folder in folders if (folder / MANIFEST).is_file()]
    try:
        counts = [read_manifest(folder).get("rows") for folder in tables]
    except InputError:
        return None
    return max((count for count in counts if isinstance(count, int)), default=None)


def _source_rows(source: Any, root: Path, limit: int) -> int | None:
    """Return the rows of a source, estimated from the size of its files.

    Args:
        source: params `ingest.source`.
        root: of the project.
        limit: rows beyond which the files are not counted to their end.

    Returns:
        Rows; None for a source without files, or for more than `limit`.
    """
    if source.kind != "files":
        return None
    size = 0
    path = root / source.path
    files = path.rglob("*") if path.is_dir() else [path]
    for file in files:
        if file.is_file():
            size += file.stat().st_size
        if size > limit * _BYTES_PER_ROW:
            return None
    return size // _BYTES_PER_ROW


def main() -> None:
    """Start Ray; the arguments are the root of the project and the number of the owner."""
    from components.orchestration.cluster.local_cluster import start

    root = Path(sys.argv[1])
    owner = psutil.Process(json.loads(sys.argv[2]))
    start(root, owner)


if __name__ == "__main__":
    main()
