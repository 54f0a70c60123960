"""The tools that read all code: style, layout, types, and the direction of imports."""

from __future__ import annotations

import subprocess
import sys

from tests.structure.import_graph import ROOT

PACKAGES = ["components", "tests", "benchmarks"]


def run(*words: str) -> None:
    """Run a module of this environment over the project; its output is the message if it complains."""
    done = subprocess.run([sys.executable, "-m", *words], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_style() -> None:
    run("ruff", "check", *PACKAGES)


def test_layout() -> None:
    run("ruff", "format", "--check", *PACKAGES)


def test_types() -> None:
    # Those of the benchmarks too: nothing else finds an attribute there that was renamed here.
    run("mypy")


def test_imports_run_from_the_roof_down() -> None:
    code = "import sys; from importlinter.cli import lint_imports_command; sys.argv = ['lint-imports']; lint_imports_command()"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " 0 broken" in done.stdout
