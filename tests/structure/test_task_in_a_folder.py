"""A task is added by a folder: commands and stages find it, and no file outside it changes."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from components.core.files import sha256
from tests.structure.import_graph import ROOT

TASK = "flat_prices"
FOLDER = f"components/tasks/{TASK}"
COPIED = ("components", "tests/structure", "docs", "pipelines", "dvc.yaml", ".dvcignore")
BLOCK = re.compile(r"`components/tasks/\w+/(\w+\.py)`\n\n```python\n(.*?)\n```", re.DOTALL)
DEFAULTS = """
from components.tasks.shared.defaults.tables.table_defaults import NumberTableDefaults

DEFAULTS = NumberTableDefaults("target", other_task="tabular_classification")
"""
SMALL = ("train.workers=1", "train.epochs=1", "train.classical.trees=10", "evaluate.resamples=100")
# All stages but serve, which needs Ray and MLflow.
STAGES = """
from pathlib import Path

from components.core.job import Job
from components.orchestration.pipeline_params import load
from components.orchestration.runner.in_process import execute_here
from components.orchestration.stage_files import STAGES

root = Path.cwd()
params = load(root / "pipelines/flats/params.yaml")
data = root / params.pipeline.data
(data / "models").mkdir(parents=True)
(data / "reports").mkdir()
for name, stage in STAGES.items():
    if name != "serve":
        execute_here(
            Job(
                stage=name,
                task=params.task,
                seed=params.seed,
                root=root,
                params=params.sections[name],
                sections={section: params.sections[section] for section in stage.sections},
                inputs={key: data / path for key, path in stage.inputs.items()},
                outputs={key: data / path for key, path in stage.outputs.items()},
                state=data / ".state" / name,
                tags={"pipeline": params.name, "params_hash": "0" * 64},
            )
        )
"""


class Copy:
    """A copy of the project to which the task of the tutorial is added, under another name."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for name in COPIED:
            if (ROOT / name).is_dir():
                shutil.copytree(
                    ROOT / name,
                    root / name,
                    ignore=shutil.ignore_patterns("dvc.lock"),
                )
            else:
                shutil.copy2(ROOT / name, root / name)
        for name in ("params.yaml", "pyproject.toml"):
            shutil.copy2(ROOT / name, root / name)
        (root / "tests" / "__init__.py").touch()
        self.before = self.hashes()
        (root / FOLDER).mkdir()
        (root / FOLDER / "__init__.py").write_text('"""Table of flats -> price."""\n')
        (root / FOLDER / "defaults.py").write_text(DEFAULTS)
        tutorial = (ROOT / "docs/en/tutorials/add-a-task.md").read_text(encoding="utf-8")
        for name, code in BLOCK.findall(tutorial):
            (root / FOLDER / name).write_text(f"{code}\n", encoding="utf-8")

    def hashes(self) -> dict[str, str]:
        """The SHA-256 of each file."""
        return {
            path.relative_to(self.root).as_posix(): sha256(path)
            for path in self.root.rglob("*")
            if path.is_file() and "__pycache__" not in path.parts
        }

    def changed(self) -> set[str]:
        """The files that are new or another."""
        return {name for name, digest in self.hashes().items() if self.before.get(name) != digest}

    def python(self, *words: str) -> str:
        """Run Python in the copy and return what it prints."""
        done = subprocess.run(
            [sys.executable, *words],
            cwd=self.root,
            env={**os.environ, "PYTHONPATH": str(self.root), "CUDA_VISIBLE_DEVICES": ""},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
        return done.stdout


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Copy]:
    """The copy, which the tests of this file change in turn."""
    root = tmp_path_factory.mktemp("project")
    yield Copy(root)
    shutil.rmtree(root)


def flats(count: int) -> str:
    """A CSV of flats; the price follows from size and city."""
    rng = np.random.default_rng(0)
    lines = ["size,city,price"]
    for size, city in zip(rng.uniform(20, 150, count), rng.integers(0, 3, count), strict=True):
        lines.append(f"{size:.2f},city {'abc'[city]},{size * (city + 1) * 1000:.0f}")
    return "\n".join(lines)


def test_dvc_yaml_covers_the_task(copy: Copy) -> None:
    """The tests of the deps pass in the copy, whose dvc.yaml is that of the project."""
    words = ("-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/structure/test_deps.py")
    said = copy.python(*words, "-k", TASK)
    passed = re.search(r"(\d+) passed", said)
    assert passed
    # Three tests for each of nine stages, and those of the keys of caches and fits.
    assert int(passed[1]) >= 30
    assert {name.rpartition("/")[0] for name in copy.changed()} == {FOLDER}


def test_the_reference_of_params_has_the_task(copy: Copy) -> None:
    copy.python("-m", "components.orchestration.params_reference")
    pages = {"docs/en/reference/params.md", "docs/zh/reference/params.md"}
    assert {name for name in copy.changed() if not name.startswith(FOLDER)} == pages
    assert all(TASK in (copy.root / page).read_text(encoding="utf-8") for page in pages)


def test_commands_make_a_pipeline_of_the_task_and_its_stages_run(copy: Copy) -> None:
    (copy.root / "flats.csv").write_text(flats(120))
    settings = [word for setting in SMALL for word in ("--set", setting)]
    words = ("flats", "--task", TASK, "--data", "flats.csv", "--target", "price", "--yes")
    copy.python("-m", "components.cli", "new", *words, *settings)
    code = {name for name in copy.changed() if name.startswith("components/")}
    assert {name.rpartition("/")[0] for name in code} == {FOLDER}
    assert copy.before["dvc.yaml"] == sha256(copy.root / "pipelines/flats/dvc.yaml")
    copy.python("-c", STAGES)
    page = (copy.root / "data/flats/reports/evaluation.html").read_text(encoding="utf-8")
    assert "RMSE" in page and "city b" in page
