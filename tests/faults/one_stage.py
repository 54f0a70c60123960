"""A pipeline of the stage ingest alone, whose processes a test can slow down, count and kill."""

from __future__ import annotations

import subprocess
from pathlib import Path

import yaml

from tests.commands.project import Project, reviews
from tests.faults.kill_hook import install_hook, start_group


class OneStage:
    """The pipeline `short`, on a source that grows."""

    def __init__(self, folder: Path) -> None:
        self.project = Project(folder / "p")
        self.root = self.project.root
        self.rows = 30
        self.grow()
        self.project.pipeline("short", "data/sources/short.csv", columns={"label": "label"})
        file = self.root / "pipelines" / "short" / "dvc.yaml"
        tree = yaml.safe_load(file.read_text(encoding="utf-8"))
        short = {"stages": {"ingest": tree["stages"]["ingest"]}}
        file.write_text(yaml.safe_dump(short), encoding="utf-8")
        install_hook(self.project, folder / "hook")
        self.counts = folder / "counts"
        self.project.env["COUNTS"] = str(self.counts)

    def grow(self) -> None:
        """Append a row to the source."""
        self.rows += 1
        self.project.write("data/sources/short.csv", reviews(self.rows))

    def start(self, *words: str, **env: str) -> subprocess.Popen[str]:
        """Start a Python module in a process group of its own."""
        return start_group(self.project, *words, **env)

    def run(self, *words: str, **env: str) -> tuple[int, str]:
        """Run a Python module to its end; returns its exit code and what it printed."""
        process = self.start(*words, **env)
        printed, _ = process.communicate(timeout=900)
        return process.returncode, printed

    def computed(self) -> int:
        """Return how often the component has run since the last call."""
        count = len(self.counts.read_text().splitlines()) if self.counts.exists() else 0
        self.counts.unlink(missing_ok=True)
        return count
