"""A pipeline runs whatever is wrong with the files of another one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from components.orchestration.runner.dvc_entry_point import is_foreign, parse_once, restrict

ROOT = Path(__file__).parents[3]
STAGE = "stages: {{one: {{wdir: '{wdir}', cmd: 'echo a > {out}', outs: ['{out}']}}}}\n"
BROKEN = {
    "no YAML": "stages: [",
    "a missing params file": "stages: {one: {cmd: 'echo ${nothing.here}'}}\n",
    "the outputs of another": STAGE.format(wdir="../..", out="first.txt"),
}


def dvc(root: Path, *words: str) -> subprocess.CompletedProcess[str]:
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, "-m", *words],
        cwd=root,
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )


def test_other_pipelines_are_no_matter_and_the_own_is(tmp_path: Path) -> None:
    (tmp_path / "dvc.yaml").write_text(STAGE.format(wdir=".", out="first.txt"))
    for name, text in {"good": STAGE.format(wdir="../..", out="second.txt"), **BROKEN}.items():
        (tmp_path / "pipelines" / name).mkdir(parents=True)
        (tmp_path / "pipelines" / name / "dvc.yaml").write_text(text)
    assert dvc(tmp_path, "dvc", "init", "-q", "--no-scm").returncode == 0
    # DVC itself refuses to run any of them.
    assert dvc(tmp_path, "dvc", "repro", "dvc.yaml").returncode != 0
    for target in ("dvc.yaml", "pipelines/good/dvc.yaml"):
        done = dvc(tmp_path, "components.orchestration.runner.dvc_entry_point", "repro", target)
        assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "first.txt").is_file() and (tmp_path / "second.txt").is_file()
    assert (
        dvc(
            tmp_path,
            "components.orchestration.runner.dvc_entry_point",
            "repro",
            "pipelines/no YAML/dvc.yaml",
        ).returncode
        != 0
    )


def test_only_the_files_of_pipelines_are_passed_over(tmp_path: Path) -> None:
    target = tmp_path / "pipelines" / "mine" / "dvc.yaml"
    assert not is_foreign(tmp_path, target, target)
    assert is_foreign(tmp_path, target, tmp_path / "dvc.yaml") and is_foreign(
        tmp_path, target, tmp_path / "pipelines" / "other" / "dvc.yaml"
    )
    assert not is_foreign(
        tmp_path, target, tmp_path / "data" / "sources" / "mine.csv.dvc"
    ) and not is_foreign(tmp_path, target, tmp_path / "more" / "dvc.yaml")


def test_the_lock_has_the_bytes_that_dvc_writes(tmp_path: Path) -> None:
    stages = {
        f"stage{number}": {
            "cmd": f"echo {number} > {number}.txt",
            "deps": [f"{number - 1}.txt"] if number else [],
            "params": ["rate"],
            "outs": [f"{number}.txt"],
        }
        for number in range(3)
    }
    locks = []
    for module in ("dvc", "components.orchestration.runner.dvc_entry_point"):
        root = tmp_path / module
        root.mkdir()
        (root / "dvc.yaml").write_text(json.dumps({"stages": stages}))
        assert dvc(root, "dvc", "init", "-q", "--no-scm").returncode == 0
        for rate in ("1.0e-05", "2.50"):
            (root / "params.yaml").write_text(f"rate: {{value: {rate}, names: ['on', \"1\"]}}\n")
            done = dvc(root, module, "repro", "dvc.yaml")
            assert done.returncode == 0, done.stdout + done.stderr
        locks.append((root / "dvc.lock").read_bytes())
    assert locks[0] == locks[1] and b"stage2" in locks[0]


def test_equal_files_are_parsed_once_and_changed_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dvc.utils import strictyaml
    from dvc.utils.serialize import _yaml

    parse = _yaml.parse_yaml
    parsed: list[str] = []

    def count(text: str, path: str, typ: str) -> Any:
        parsed.append(text)
        return parse(text, path, typ)

    monkeypatch.setattr(_yaml, "parse_yaml", count)
    monkeypatch.setattr(strictyaml, "parse_yaml", count)
    (tmp_path / "dvc.lock").write_text("stages: {one: {cmd: echo}}")
    parse_once()
    contents = [strictyaml.load(str(tmp_path / "dvc.lock"))[0] for _ in range(2)]
    contents[0]["stages"].clear()
    assert contents[1] == {"stages": {"one": {"cmd": "echo"}}}
    assert len(parsed) == 1


def test_the_files_of_other_pipelines_are_not_parsed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dvc.repo import Repo
    from dvc.repo.index import Index

    (tmp_path / "pipelines" / "other").mkdir(parents=True)
    (tmp_path / "dvc.yaml").write_text(STAGE.format(wdir=".", out="first.txt"))
    (tmp_path / "pipelines" / "other" / "dvc.yaml").write_text(BROKEN["no YAML"])
    parsed: list[str] = []
    monkeypatch.setattr(Index, "from_file", lambda repo, path: parsed.append(path) or Index(repo))
    restrict(tmp_path, tmp_path / "dvc.yaml")
    with Repo.init(str(tmp_path), no_scm=True) as repo:
        assert Index.from_repo(repo).stages == []
    assert parsed == [str(tmp_path / "dvc.yaml")]
