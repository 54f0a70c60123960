"""The code of the pages for developers can be added to the project, and passes the tests."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.structure.import_graph import ROOT

PAGES = ("add-a-model", "add-a-gate")
NEW_FILE = re.compile(r"`(components/[\w/.]+)`\n\n```python\n(.*?)```", re.DOTALL)
DIFF = re.compile(r"```diff\n(.*?)```", re.DOTALL)
COMMANDS = re.compile(
    r"<!-- not run: tests/docs/test_developer_pages.py runs it -->\n```sh\n(.*?)```", re.DOTALL
)
COPIED = ("components", "tests", "docs", "pipelines")
FILES = ("dvc.yaml", "params.yaml", "pyproject.toml", ".dvcignore")


def page(name: str, language: str) -> str:
    return (ROOT / "docs" / language / "how-to" / f"{name}.md").read_text(encoding="utf-8")


def project(root: Path) -> None:
    """Copy the project without data and results, and with its bytecode."""
    for name in COPIED:
        ignored = shutil.ignore_patterns("dvc.lock")
        shutil.copytree(ROOT / name, root / name, ignore=ignored)
    for name in FILES:
        shutil.copy2(ROOT / name, root / name)


@pytest.mark.parametrize("name", PAGES)
def test_both_languages_show_the_same_code(name: str) -> None:
    english, chinese = page(name, "en"), page(name, "zh")
    for blocks in (NEW_FILE, DIFF, COMMANDS):
        assert blocks.findall(english) == blocks.findall(chinese)


@pytest.mark.parametrize("name", PAGES)
def test_the_code_of_a_page_passes_the_tests_it_names(name: str, tmp_path: Path) -> None:
    project(tmp_path)
    text = page(name, "en")
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(tmp_path),
        "CUDA_VISIBLE_DEVICES": "",
    }

    def run(command: str, given: str = "") -> str:
        done = subprocess.run(
            ["bash", "-euc", command],
            cwd=tmp_path,
            env=environment,
            input=given,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        return done.stdout

    for path, code in NEW_FILE.findall(text):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text(code, encoding="utf-8")
    diffs = DIFF.findall(text)
    assert diffs
    for diff in diffs:
        run("git apply --unidiff-zero -", diff)
    printed = "".join(run(command) for command in COMMANDS.findall(text))
    assert re.search(r"\d+ passed", printed)
    run("ruff check components tests/components && lint-imports")
