"""Commands of gristmill as forks of one process that has imported what they need.

A start of Python, of MLflow and of the command line takes seconds; a fork takes none, and a kill of
it is a kill of a command.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

# Imports in a fork would be repeated by the next one, and a killer makes them slow.
IMPORTS = (
    "httpx",
    "mlflow.store.model_registry.sqlalchemy_store",
    "mlflow.store.tracking.sqlalchemy_store",
    "pyarrow.parquet",
    "rich.table",
    "components.cli.main",
    "components.orchestration.release_events",
    "components.registry.release.mlflow_requests",
)
SOURCE = Path(__file__).resolve().parents[2]


class ForkedCommands:
    """The process of which commands are forks."""

    def __init__(self) -> None:
        foreign = ("RAY_", "GRISTMILL_", "DVC_", "MLFLOW_")
        env = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.forked_commands"],
            cwd=SOURCE,
            env=env | {"PYTHONPATH": str(SOURCE), "COLUMNS": "200"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, root: Path, words: Sequence[str], kill_at: str = "") -> tuple[int, str]:
        """Run a command in a project; returns its exit code and what it printed.

        Args:
            root: of the project.
            words: of the command, without `gristmill`.
            kill_at: a moment, as `kill_moment.killer` takes it.
        """
        order = {"root": str(root), "words": list(words), "kill_at": kill_at}
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        code = int(self._process.stdout.readline())
        return code, (root / "printed").read_text(encoding="utf-8")

    def end(self) -> None:
        """End the process."""
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait(20)


def _command(order: dict[str, Any]) -> None:
    """Be the command."""
    from components.cli.main import main
    from tests.faults.kill_moment import killer

    os.setsid()
    os.chdir(order["root"])
    printed = os.open("printed", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(printed, 1)
    os.dup2(printed, 2)
    sys.argv = ["gristmill", *order["words"]]
    if order["kill_at"]:
        sys.setprofile(killer(order["kill_at"]))
    main()


def serve() -> None:
    """Fork a command for each line of stdin, and print its exit code."""
    for name in IMPORTS:
        importlib.import_module(name)
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            _command(json.loads(line))
            raise SystemExit
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    serve()
