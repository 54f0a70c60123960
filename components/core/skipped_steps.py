"""Report steps that params switch off, and write a note in place of their results."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from components.core.files import to_json, write_atomic
from components.core.job import Job

NOTE = "skipped.json"


def report_skipped(
    job: Job, steps: Mapping[str, str], folder: Path, example: Mapping[str, str]
) -> None:
    """Print each skipped step with the key that brings it back, and write the note.

    Args:
        job: the stage whose steps these are.
        steps: step -> the setting that switches it off, such as "tune.trials is 0".
        folder: the output of the steps. DVC needs it with or without them.
        example: step -> what to write to params.yaml instead, such as "tune.trials: 8".
    """
    file = job.tags.get("params_file", "params.yaml")
    for step, setting in steps.items():
        job.journal.log(
            f"{step} skipped: {setting}. To force it, write {example[step]} to {file} and run again"
        )
    write_atomic(folder / NOTE, to_json({"skipped": dict(steps)}))
