"""Define the job of a stage: its params, inputs, outputs, and how it reports."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel


class Journal:
    """An append-only file of events.

    The stage writes it, and the process that runs the stage turns it into progress bars and
    MLflow calls. It is in the stage's state folder, so a resumed stage continues the same
    journal.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def _append(self, event: Mapping[str, Any]) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # A lone surrogate becomes its JSON escape.
        line = json.dumps({"time": time.time(), **event}, ensure_ascii=False)
        with self.path.open("a", encoding="utf-8", errors="backslashreplace") as stream:
            stream.write(line + "\n")

    def progress(self, done: float, total: float, what: str) -> None:
        """Report the progress of the work, in units of `what`."""
        self._append({"kind": "progress", "done": done, "total": total, "what": what})

    def metrics(self, values: Mapping[str, float], step: int, child: str = "") -> None:
        """Report points on curves. `child` names a trial or a candidate with its own run."""
        self._append({"kind": "metrics", "values": dict(values), "step": step, "child": child})

    def params(self, values: Mapping[str, Any], child: str = "") -> None:
        """Report the params of a run."""
        self._append({"kind": "params", "values": dict(values), "child": child})

    def result(self, tags: Mapping[str, Any], metrics: Mapping[str, float]) -> None:
        """Report the result of the whole pipeline, for the run above the stages' runs."""
        self._append({"kind": "result", "tags": dict(tags), "metrics": dict(metrics)})

    def dataset(self, values: Mapping[str, str]) -> None:
        """Report the dataset that a stage wrote, by the fields that MLflow gives it."""
        self._append({"kind": "dataset", "values": dict(values)})

    def log(self, text: str) -> None:
        """Report one line for a person."""
        self._append({"kind": "say", "text": text})


@dataclass(frozen=True)
class Job:
    """One run of one stage. All paths are absolute.

    Args:
        stage: name of the stage.
        task: name of the task.
        seed: of every random choice.
        root: folder of the project.
        params: the stage's own section, validated.
        sections: the other sections that it reads, by name.
        inputs: folders by name.
        outputs: temporary folders by name, renamed when the stage returns.
        state: folder that survives a kill and is removed when the stage is done.
        tags: params_hash. For the registry only, never in a bundle: git commit and run name.
        cache: folder of `core.cache`, which outlives the stage.
    """

    stage: str
    task: str
    seed: int
    root: Path
    params: Any
    sections: Mapping[str, BaseModel]
    inputs: Mapping[str, Path]
    outputs: Mapping[str, Path]
    state: Path
    tags: Mapping[str, str] = field(default_factory=dict)
    cache: Path | None = None

    @property
    def journal(self) -> Journal:
        """Return the journal in which the stage reports."""
        return Journal(self.state / "journal.jsonl")
