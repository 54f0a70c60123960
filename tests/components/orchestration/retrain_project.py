"""A copy of the project whose pipeline is three stages of a few lines, so that a retrain takes seconds."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Sequence
from pathlib import Path

from components.registry.release.retrain_record import RetrainRecord, retrains
from components.registry.versions.reader import read_snapshot
from tests.commands.project import Project, reviews

DVC = """
stages:
  ingest:
    cmd: python work.py ingest
    deps: [mine/rows.csv]
    outs: [data/raw]
  train:
    cmd: python work.py train
    deps: [data/raw]
    outs: [data/models]
  serve:
    cmd: python work.py serve
    deps: [data/models]
    outs:
    - data/reports/leaderboard.json: {cache: false}
    metrics:
    - data/reports/serve.json: {cache: false}
"""
WORK = """
import json, pathlib, sys, time
stage, data = sys.argv[1], pathlib.Path("data")
nap = pathlib.Path(f"nap.{stage}")
if stage != "train" and "NAP" in pathlib.Path("mine/rows.csv").read_text() and not nap.exists():
    nap.touch()
    time.sleep(60)
if stage == "ingest":
    (data / "raw").mkdir(parents=True)
    (data / "raw" / "rows.csv").write_bytes(pathlib.Path("mine/rows.csv").read_bytes())
    (data / "raw" / "manifest.json").write_text(json.dumps({"files": [{"name": "rows.csv"}]}))
    sys.exit()
rows = (data / "raw" / "rows.csv").read_text() if stage == "train" else (data / "models" / "m").read_text()
if stage == "train":
    slept = len(list(pathlib.Path(".").glob("slept.*")))
    if "SLEEP" in rows and slept < 2:
        pathlib.Path(f"slept.{slept}").touch()
        time.sleep(60)
    if "CRASH" in rows:
        sys.exit("error: the sky has fallen")
    (data / "models").mkdir()
    (data / "models" / "m").write_text(rows)
    sys.exit()
(data / "reports").mkdir(exist_ok=True)
(data / "reports" / "leaderboard.json").write_text(json.dumps({"deciding_metric": "macro_f1", "candidates": []}))
worse = "WORSE" in rows
told = {"model": "default", "version": 1, "decision": "refused" if worse else "promoted", "gates": {"champion": "refused" if worse else "passed", "size": "passed"}}
(data / "reports" / "serve.json").write_text(json.dumps(told))
"""


class Small(Project):
    """The copy, with a copy of an empty store."""

    def __init__(self, root: Path, store: Path) -> None:
        super().__init__(root)
        shutil.copytree(store / "mlflow", root / "mlflow", dirs_exist_ok=True)
        (root / "dvc.yaml").write_text(DVC, encoding="utf-8")
        (root / "work.py").write_text(WORK, encoding="utf-8")
        self.edit("params.yaml", {"ingest": {"source": None}})
        self.edit("params.yaml", {"ingest": {"source": {"kind": "files", "path": "mine/rows.csv"}}})
        self.put([])
        self.commit()

    def put(
        self, more: Sequence[str], count: int = 40, header: Sequence[str] = ("text", "label")
    ) -> Path:
        """Write the source: so many rows, and these texts."""
        path = self.root / "mine" / "rows.csv"
        path.parent.mkdir(exist_ok=True)
        with path.open("w", newline="", encoding="utf-8") as stream:
            csv.writer(stream).writerows(
                [header, *reviews(count), *((text, "pos") for text in more)]
            )
        return path

    def commit(self) -> None:
        """All but the source."""
        import subprocess

        (self.root / ".git" / "info" / "exclude").write_text("/mine/\n")
        for words in (
            ["add", "-A"],
            ["-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qm", "more"],
        ):
            subprocess.run(["git", *words], cwd=self.root, check=True, capture_output=True)

    def records(self) -> list[RetrainRecord]:
        """What was written down."""
        shelf = read_snapshot(self.root, "default")
        return retrains(shelf) if shelf else []
