"""A copy of the project in which commands are run as a person runs them."""

from __future__ import annotations

import copy
import csv
import hashlib
import io
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import chdir, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import cache_from_source
from pathlib import Path
from typing import Any
from unittest.mock import patch

import psutil
import pyarrow.parquet as pq
from ruamel.yaml import YAML

from components.cli.main import app, fail
from components.core.console import console
from components.core.errors import GristmillError

SOURCE = Path(__file__).resolve().parents[2]
NET = {
    "textcnn": {"width": 16, "channels": 8, "kernels": [1, 2], "dropout": 0.2},
    "transformer": {"width": 16, "layers": 1, "heads": 2, "feedforward": 32, "dropout": 0.1},
}
SMALL: dict[str, dict[str, Any]] = {
    "tokenize": {"max_length": 32},
    "train": {"workers": 1, "epochs": 2, "batch_size": 32, "nets": NET},
    "tune": {"trials": 2, "epochs": 1, "space": {"learning_rate": {"loguniform": [0.001, 0.01]}}},
    "compress": {
        "recipes": {"pruned": ["prune"], "int8": ["quantize"], "distilled": ["distill"]},
        "prune": {"epochs": 1},
        "quantize": {"calibration_rows": 16},
        "distill": {
            "architecture": "textcnn",
            "epochs": 1,
            "nets": {"textcnn": {"width": 8, "channels": 8, "kernels": [1, 2], "dropout": 0.1}},
        },
    },
    "evaluate": {"resamples": 100, "latency_queries": 20},
    "serve": {"questions": 5},
    "registry": {"gates": {"latency_p95_ms": 5000.0, "baseline_margin": 1.0}},
}


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    code: int
    out: str
    error: str


class Project:
    """A copy of the tracked tree with cut-down params, without data and without a cluster of its own until `gristmill up`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        foreign = ("RAY_", "GRISTMILL_", "DVC_", "MLFLOW_")
        self.env = {
            name: value for name, value in os.environ.items() if not name.startswith(foreign)
        }
        self.env |= {
            "PYTHONPATH": str(root),
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        }
        names = subprocess.run(
            ["git", "-c", "core.quotePath=false", "ls-files", "-co", "--exclude-standard"],
            cwd=SOURCE,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.splitlines()
        for name in names:
            if not name.startswith("data/") and Path(name).name != "dvc.lock":
                _copy(name, root)
                if name.endswith(".py"):
                    # The bytecode, so that commands in the copy compile nothing.
                    _copy(cache_from_source(name), root)
        for words in (
            ["init", "-q"],
            ["add", "-A"],
            ["-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qm", "copy"],
        ):
            subprocess.run(["git", *words], cwd=root, check=True, capture_output=True)
        self.edit("params.yaml", SMALL)

    def gristmill(self, *words: str, flags: Sequence[str] = (), **env: str) -> Done:
        """Run a command to its end; `flags` are Python's."""
        return self.finish(self.start(*words, flags=flags, **env))

    def call(self, *words: str) -> Done:
        """Run a command in this process, for tests that are not about the process."""
        return call(self.root, self.env, *words)

    def dvc(self, *words: str, **env: str) -> Done:
        """Run dvc to its end."""
        return self.finish(self._start([sys.executable, "-m", "dvc", *words], env))

    def start(self, *words: str, flags: Sequence[str] = (), **env: str) -> subprocess.Popen[str]:
        """Start a command."""
        return self._start([sys.executable, *flags, "-m", "components.cli", *words], env)

    def finish(self, process: subprocess.Popen[str], timeout: float = 500) -> Done:
        """Wait for the end of a command (seconds)."""
        try:
            out, error = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            process.terminate()
            raise
        return Done(process.returncode, out, error)

    def _start(self, words: Sequence[str], env: Mapping[str, str]) -> subprocess.Popen[str]:
        return subprocess.Popen(
            words,
            cwd=self.root,
            env={**self.env, **env},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def edit(self, params: str, sections: Mapping[str, Any]) -> None:
        """Put values into a params file: mappings are merged, everything else replaced; None as a section's value takes it away."""
        tree = _tree(self.root / params)
        _merge(tree, sections)
        YAML().dump(tree, self.root / params)

    def pipeline(
        self, name: str, path: str, sections: Mapping[str, Any] | None = None, **ingest: Any
    ) -> str:
        """Make a pipeline over a file by hand; returns its params file. `ingest` holds further keys of ingest.source, and `columns`."""
        folder = self.root / "pipelines" / name
        folder.mkdir()
        shutil.copyfile(self.root / "dvc.yaml", folder / "dvc.yaml")
        shutil.copyfile(self.root / "params.yaml", folder / "params.yaml")
        params = f"pipelines/{name}/params.yaml"
        columns = ingest.pop("columns", {})
        tree = _tree(self.root / params)
        tree["pipeline"] = {"root": "../..", "params": params, "data": f"data/{name}"}
        tree["ingest"] = {
            "source": {"kind": "files", "path": path, **ingest},
            "columns": columns,
            "max_bytes_per_value": 200000,
        }
        _merge(tree, sections or {})
        YAML().dump(tree, self.root / params)
        return params

    def write(
        self,
        path: str,
        rows: Iterable[Sequence[str]],
        header: Sequence[str] = ("text", "label"),
        encoding: str = "utf-8",
    ) -> str:
        """Write a CSV; returns its path."""
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        with (self.root / path).open("w", newline="", encoding=encoding) as stream:
            writer = csv.writer(stream)
            writer.writerow(header)
            writer.writerows(rows)
        return path

    def table(self, folder: str) -> list[dict[str, Any]]:
        """All rows of a table."""
        return [
            row
            for path in sorted((self.root / folder).glob("*.parquet"))
            for row in pq.read_table(path).to_pylist()
        ]

    def hashes(self, folder: str) -> dict[str, str]:
        """What lies in a folder."""
        base = self.root / folder
        return {
            path.relative_to(base).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(base.rglob("*"))
            if path.is_file()
        }

    def processes(self) -> list[str]:
        """Command lines of processes that belong to this copy: they were started in it, or have its path in their environment."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.pid != os.getpid() and (
                    process.environ().get("PYTHONPATH", "").split(os.pathsep)[0] == str(self.root)
                    or str(self.root) in " ".join(process.cmdline())
                ):
                    found.append(" ".join(process.cmdline())[:150])
            except psutil.Error:
                continue
        return found


def call(root: Path, env: Mapping[str, str], *words: str) -> Done:
    """Run a command in this process, in a project and with an environment."""
    out, error, shown = io.StringIO(), io.StringIO(), console.file
    console.file = out
    try:
        with (
            patch.dict(os.environ, env, clear=True),
            chdir(root),
            redirect_stdout(out),
            redirect_stderr(error),
        ):
            _run_app(words)
    except SystemExit as end:
        return Done(int(end.code or 0), out.getvalue(), error.getvalue())
    finally:
        console.file = shown
    raise AssertionError("a command ends with an exit code")


def _run_app(words: Sequence[str]) -> None:
    """Run a command as `main` does; raises SystemExit."""
    try:
        app(list(words))
    except GristmillError as error:
        fail(error)


def _tree(path: Path) -> Any:
    """Return the values of a YAML file with its comments."""
    return copy.deepcopy(_parsed(path.read_bytes()))


@lru_cache(maxsize=8)
def _parsed(content: bytes) -> Any:
    """Parse a YAML file once: with comments, a params.yaml takes 0.1 s."""
    return YAML().load(content)


def _copy(name: str, root: Path) -> None:
    """Copy a file of the project, if it is there."""
    if (SOURCE / name).is_file():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(SOURCE / name, root / name)


def _merge(tree: Any, changes: Mapping[str, Any]) -> None:
    for key, value in changes.items():
        if (
            isinstance(value, Mapping)
            and isinstance(tree.get(key), Mapping)
            and key not in ("space", "nets")
        ):
            _merge(tree[key], value)
        else:
            tree[key] = value


def reviews(count: int = 60, labels: Sequence[str] = ("pos", "neg")) -> list[tuple[str, str]]:
    """Texts that are no near-duplicates of each other, and their labels in turn."""
    words = [
        "room",
        "staff",
        "breakfast",
        "film",
        "book",
        "battery",
        "plot",
        "price",
        "service",
        "hotel",
        "music",
        "story",
        "screen",
        "food",
        "window",
        "street",
        "garden",
        "coffee",
        "train",
        "light",
        "water",
        "chair",
        "paper",
        "stone",
        "river",
    ]
    chosen = [hashlib.sha256(str(number).encode()).digest() for number in range(count)]
    return [
        (" ".join(words[byte % len(words)] for byte in digest[:9]), labels[number % len(labels)])
        for number, digest in enumerate(chosen)
    ]
