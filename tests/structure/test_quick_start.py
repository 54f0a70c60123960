"""Params are checked before anything heavy is loaded, so that a mistake is told at once, and stages import what they use when they use it. Modules are counted, not seconds."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.structure.import_graph import ROOT

HEAVY = {"torch", "ray", "mlflow", "sklearn", "matplotlib", "pandas", "scipy", "onnxruntime", "dvc"}

LOAD = """
import importlib, json, sys
from pathlib import Path
from components.orchestration.pipeline_params import load
from components.orchestration.stage_files import STAGES
for path in sys.argv[1:]:
    load(Path(path))
for stage in STAGES:
    importlib.import_module(f"components.stages.{stage}.stage")
print(json.dumps(sorted({name.split(".")[0] for name in sys.modules})))
"""
RUN = """
import json, sys
from components.cli.main import main
sys.argv = ["gristmill", *sys.argv[1:]]
try:
    main()
except SystemExit as end:
    print(json.dumps({"code": end.code, "modules": sorted({name.split(".")[0] for name in sys.modules})}))
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """As much of a checkout as the command looks at, with a mistake in its params."""
    for name in ("dvc.yaml", "params.yaml", "components/cli/main.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, tmp_path / name)
    path = tmp_path / "params.yaml"
    path.write_text(
        path.read_text(encoding="utf-8").replace("optimizer: adamw", "optimizer: adamm"),
        encoding="utf-8",
    )
    return tmp_path


def command(folder: Path, *words: str) -> tuple[dict[str, object], str]:
    """The gristmill command in a process of its own: how it ended and what it had imported; and what it said."""
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r})" + RUN
    done = subprocess.run(
        [sys.executable, "-c", code, *words], cwd=folder, check=True, capture_output=True, text=True
    )
    return json.loads(done.stdout.splitlines()[-1]), done.stderr


def test_shipped_params_and_stages_load_without_heavy_libraries() -> None:
    paths = [ROOT / "params.yaml", *ROOT.glob("pipelines/*/params.yaml")]
    done = subprocess.run(
        [sys.executable, "-c", LOAD, *map(str, paths)],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    modules = set(json.loads(done.stdout))
    assert "components" in modules
    assert not modules & HEAVY


def test_run_with_a_mistake_ends_with_2_before_anything_is_started(checkout: Path) -> None:
    end, said = command(checkout, "run")
    assert end["code"] == 2
    assert (
        "params.yaml: train.optimizer: 'adamm' is not one of sgd, adagrad, rmsprop, adam, adamw, muon (did you mean 'adamw'?)"
        in said
    )
    assert not set(end["modules"]) & HEAVY  # type: ignore[call-overload]
    assert {path.name for path in checkout.iterdir()} == {
        "dvc.yaml",
        "params.yaml",
        "components",
    }, "something was written"


def test_stage_with_a_mistake_ends_with_2(checkout: Path) -> None:
    end, said = command(checkout, "stage", "train", "params.yaml")
    assert end["code"] == 2
    assert "did you mean 'adamw'?" in said


def test_run_of_an_unknown_pipeline_says_which_there_are(checkout: Path) -> None:
    end, said = command(checkout, "run", "nothing")
    assert end["code"] == 2
    assert "there is no pipeline 'nothing'; there are default" in said
    assert not set(end["modules"]) & HEAVY  # type: ignore[call-overload]


def test_help_imports_nothing_heavy(checkout: Path) -> None:
    end, _ = command(checkout, "--help")
    assert end["code"] == 0
    assert not set(end["modules"]) & HEAVY  # type: ignore[call-overload]
