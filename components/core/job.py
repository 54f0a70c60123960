"""What a stage is handed: its params, where to read, where to write, and how to report."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel


class Journal:
    """An append-only file of events. The stage writes it; the stage's process turns it into bars and MLflow calls.

    It lies in the stage's state folder, so a resumed stage goes on with the same journal.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def _append(self, event: Mapping[str, Any]) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # A lone surrogate becomes its JSON escape.
        with self.path.open("a", encoding="utf-8", errors="backslashreplace") as stream:
            stream.write(json.dumps({"time": time.time(), **event}, ensure_ascii=False) + "\n")

    def progress(self, done: float, total: float, what: str) -> None:
        """How far the work is, in units of `what`."""
        self._append({"kind": "progress", "done": done, "total": total, "what": what})

    def metrics(self, values: Mapping[str, float], step: int, child: str = "") -> None:
        """Points on curves; `child` names a trial or a candidate with a run of its own."""
        self._append({"kind": "metrics", "values": dict(values), "step": step, "child": child})

    def params(self, values: Mapping[str, Any], child: str = "") -> None:
        """What a run was made with."""
        self._append({"kind": "params", "values": dict(values), "child": child})

    def result(self, tags: Mapping[str, Any], metrics: Mapping[str, float]) -> None:
        """What came of the whole pipeline, for its own run above the stages' runs."""
        self._append({"kind": "result", "tags": dict(tags), "metrics": dict(metrics)})

    def log(self, text: str) -> None:
        """One line for the person who watches."""
        self._append({"kind": "say", "text": text})


@dataclass(frozen=True)
class Job:
    """One run of one stage. All paths are absolute."""

    stage: str
    task: str
    seed: int
    root: Path
    params: Any  # the stage's own section, validated
    sections: Mapping[str, BaseModel]  # the other sections that it reads, by name
    inputs: Mapping[str, Path]
    outputs: Mapping[str, Path]  # temporary twins, renamed when the stage returns
    state: Path  # survives a kill, removed when the stage is done
    tags: Mapping[str, str] = field(
        default_factory=dict
    )  # params_hash; and for the registry only, never into a bundle: git commit, run name
    memo: Path | None = (
        None  # what pure work gave in earlier runs (see core.memo); outlives the stage
    )

    @property
    def journal(self) -> Journal:
        """Where the stage reports."""
        return Journal(self.state / "journal.jsonl")
