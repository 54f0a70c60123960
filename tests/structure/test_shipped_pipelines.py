"""Every pipeline that is shipped: DVC reads it, its params validate, and it stays out of the others' way."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from components.core.params import read_yaml
from components.orchestration.pipeline_params import load
from components.orchestration.stage_files import STAGES
from components.tasks import base
from tests.structure.import_graph import ROOT

FOLDERS = [ROOT, *sorted(path.parent for path in ROOT.glob("pipelines/*/params.yaml"))]
NAMES = [folder.relative_to(ROOT).as_posix() for folder in FOLDERS]

READ = """
import json
from dvc.repo import Repo
repo = Repo(".")
repo.index.check_graph()
files = lambda entries: [str(each) for each in entries if type(each).__name__ in ("Dependency", "Output")]
print(json.dumps({stage.addressing: {"deps": files(stage.deps), "outs": files(stage.outs)} for stage in repo.index.stages}))
"""


@pytest.fixture(scope="module")
def stages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, list[str]]]:
    """Address of each stage of each pipeline -> deps and outs, read by DVC in a copy that holds nothing but the YAML files."""
    root: Path = tmp_path_factory.mktemp("dvc")
    for folder in FOLDERS:
        for name in ("dvc.yaml", "params.yaml"):
            target = root / folder.relative_to(ROOT) / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(folder / name, target)
    shutil.copyfile(ROOT / ".dvcignore", root / ".dvcignore")
    subprocess.run(
        [sys.executable, "-m", "dvc", "init", "--no-scm", "--quiet"], cwd=root, check=True
    )
    read = subprocess.run(
        [sys.executable, "-c", READ], cwd=root, check=True, capture_output=True, text=True
    )
    found: dict[str, dict[str, list[str]]] = json.loads(read.stdout)
    return {
        address: {
            kind: [(root / path).resolve().relative_to(root.resolve()).as_posix() for path in paths]
            for kind, paths in each.items()
        }
        for address, each in found.items()
    }


@pytest.mark.parametrize("name", NAMES)
def test_dvc_yaml_is_the_roots_byte_for_byte(name: str) -> None:
    assert (ROOT / name / "dvc.yaml").read_bytes() == (ROOT / "dvc.yaml").read_bytes()


@pytest.mark.parametrize("name", NAMES)
def test_params_validate_and_say_where_they_stand(name: str) -> None:
    params = load(ROOT / name / "params.yaml")
    assert (ROOT / params.pipeline.params).resolve() == ROOT / name / "params.yaml"
    assert (ROOT / name / params.pipeline.root).resolve() == ROOT
    assert params.name == ("default" if name == "." else Path(name).name)


def test_each_task_is_shipped_as_a_pipeline() -> None:
    assert {load(folder / "params.yaml").task for folder in FOLDERS} == set(base.tasks())


def test_dvc_reads_all_stages(stages: dict[str, dict[str, list[str]]]) -> None:
    assert len(stages) == len(FOLDERS) * len(STAGES)


def test_resolved_code_deps_exist(stages: dict[str, dict[str, list[str]]]) -> None:
    code = {
        path for each in stages.values() for path in each["deps"] if path.startswith("components/")
    }
    assert len(code) > 20
    assert not {path for path in code if not (ROOT / path).exists()}


def test_outs_of_pipelines_are_apart(stages: dict[str, dict[str, list[str]]]) -> None:
    """Each writes below its own data folder. That no out lies inside another's, DVC's check of the graph has seen in the fixture."""
    outs = [path for each in stages.values() for path in each["outs"]]
    assert len(outs) == len(set(outs))
    for folder in FOLDERS:
        params = load(folder / "params.yaml")
        own = [
            path
            for address, each in stages.items()
            if (
                address.startswith(f"{folder.relative_to(ROOT).as_posix()}/")
                if folder != ROOT
                else "/" not in address
            )
            for path in each["outs"]
        ]
        assert own
        assert all(path.startswith(f"{params.pipeline.data}/") for path in own)


@pytest.mark.parametrize("name", NAMES)
def test_dvc_tracks_each_section(name: str) -> None:
    """A key under no tracked section could be edited without anything being run again; only what changes no result may be untracked."""
    tree = read_yaml(ROOT / name / "params.yaml")
    told = read_yaml(ROOT / "dvc.yaml")["stages"]
    tracked = {
        key
        for stage in told.values()
        for entry in stage["params"]
        for keys in entry.values()
        for key in keys
    }
    assert set(tree) - tracked - {"monitor"} == {
        "pipeline",
        "cluster",
        "retrain",
        "release_webhook",
    }


@pytest.mark.parametrize("name", NAMES)
def test_params_have_what_dvc_compares(name: str) -> None:
    """DVC stops at a stage whose params are not all in the file, defaults or not."""
    tree = read_yaml(ROOT / name / "params.yaml")
    missing = []
    for stage in read_yaml(ROOT / "dvc.yaml")["stages"].values():
        for entry in stage["params"]:
            for path in next(iter(entry.values())):
                node: Any = tree
                for key in path.split("."):
                    node = node.get(key) if isinstance(node, dict) else None
                if node is None:
                    missing.append(path)
    assert not missing
