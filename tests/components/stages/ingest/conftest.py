"""A stub task, and a function that runs ingest on params and files."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pydantic import create_model

from components.core.job import Job
from components.core.tables import read_table
from components.fields.base import Field
from components.fields.image import Image
from components.fields.text import Text
from components.stages.ingest import stage
from components.stages.ingest.params import IngestParams
from components.tasks import base
from components.tasks.base import FixedInputs, Role
from components.tasks.shared.schema.classification.class_name import ClassName
from components.tasks.shared.schema.classification.label_maps import LabelParams
from components.tasks.shared.schema.classification.rules import ClassTargets


def task(field: Field, name: str) -> Any:
    """A schema with one input and a class."""

    class Schema(FixedInputs):
        roles = (Role(name, field, "input"), Role("label", ClassName(), "target"))
        targets = ClassTargets()

    return Schema()


# The section of a task that classifies.
Section = create_model("Section", __base__=(LabelParams, IngestParams))
TASKS = {"words": task(Text(), "text"), "pictures": task(Image(), "image")}


@dataclass
class Result:
    """What one run of ingest wrote."""

    root: Path

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The raw table."""
        return list(read_table(self.root / "raw").to_pylist())

    @property
    def quarantine(self) -> list[tuple[str, str]]:
        """(origin, reason) of each rejected row."""
        return [
            (row["origin"], row["reason"])
            for row in read_table(self.root / "raw" / "quarantine").to_pylist()
        ]

    @property
    def notes(self) -> str:
        """What ingest said, a line a remark."""
        lines = (self.root / "state" / "journal.jsonl").read_text(encoding="utf-8").splitlines()
        return "\n".join(json.loads(line).get("text", "") for line in lines)

    @property
    def classes(self) -> dict[str, int]:
        """Rows by label."""
        return dict(Counter(row["label"] for row in self.rows if row["label"] is not None))

    @property
    def splits(self) -> dict[str | None, int]:
        """Rows by split."""
        return dict(Counter(row["split"] for row in self.rows))


Ingest = Callable[..., Result]


@pytest.fixture
def ingest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ingest:
    """`ingest(source={...}, task="words", out="out", columns={...})` with paths relative to tmp_path."""
    monkeypatch.setattr(base, "schema", lambda name: TASKS[name])

    def run(task: str = "words", out: str = "out", **section: Any) -> Result:
        params = Section.model_validate(section)
        folder = tmp_path / out
        stage.run(
            Job(
                "ingest",
                task,
                7,
                tmp_path,
                params,
                {},
                {},
                {"raw": folder / "raw", "report": folder / "report.json"},
                folder / "state",
            )
        )
        return Result(folder)

    return run
