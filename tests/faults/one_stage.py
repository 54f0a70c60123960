"""A pipeline of the stage ingest alone, whose processes a test can slow down, count and kill."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import yaml

from tests.commands.project import Project, reviews

# Runs in each process of the project. KILL_AT kills the process group at the nth call or return of
# a function; COUNTS counts runs of the component; SLOW keeps the component in code in C.
HOOK = """
import os, signal, sys
where = os.environ.get("KILL_AT", "")
module, name, event, nth = where.split(":") if where else ("", "", "", "0")
left = [int(nth)]
def slow(how):
    open(os.environ["COUNTS"], "a").close()
    if how == "numpy":
        import numpy
        numpy.linalg.svd(numpy.random.rand(6000, 6000))
    if how == "holds the lock of the interpreter":
        sum(range(10 ** 10))
def profile(frame, kind, _):
    code, file = frame.f_code.co_name, frame.f_globals.get("__name__")
    if code == "run" and kind == "call" and file == "components.stages.ingest.stage":
        with open(os.environ["COUNTS"], "a") as stream:
            stream.write("computed\\n")
        slow(os.environ.get("SLOW"))
    if code == name and kind == event and file == module:
        left[0] -= 1
        if left[0] == 0:
            os.killpg(0, signal.SIGKILL)
words = " ".join(sys.orig_argv)
if "components.cli stage" in words or "dvc_repro" in words or "default_worker" in words:
    sys.setprofile(profile)
"""


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
        (folder / "hook").mkdir()
        (folder / "hook" / "sitecustomize.py").write_text(HOOK, encoding="utf-8")
        self.counts = folder / "counts"
        self.project.env |= {
            "PYTHONPATH": f"{self.root}{os.pathsep}{folder / 'hook'}",
            "COUNTS": str(self.counts),
        }

    def grow(self) -> None:
        """Append a row to the source."""
        self.rows += 1
        self.project.write("data/sources/short.csv", reviews(self.rows))

    def start(self, *words: str, **env: str) -> subprocess.Popen[str]:
        """Start a Python module in a process group of its own."""
        return subprocess.Popen(
            [sys.executable, "-m", *words],
            cwd=self.root,
            env=self.project.env | env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

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
