"""Outputs and git: ignored before the first stage runs, refused where git tracks them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from components.core.errors import InputError
from components.orchestration.runner.gitignore import (
    cached_outputs,
    check_not_in_git,
    ignore_outputs,
)
from components.orchestration.stage_files import STAGES
from components.orchestration.untracked_files import is_cached

GIT = ["git", "-c", "user.name=t", "-c", "user.email=t@t"]


def run(root: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        words, cwd=root, capture_output=True, text=True, check=False, env=dict(os.environ)
    )


def project(root: Path, failing: str = "") -> Path:
    """Return a repository with a pipeline of nine stages that write their outputs at once."""
    root.mkdir()
    stages = {}
    before: list[str] = []
    for name, stage in STAGES.items():
        paths = [f"data/{path}" for path in stage.outputs.values()]
        folders = sorted({str(Path(path).parent) for path in paths})
        write = " && ".join(f"echo {name} > {path}" for path in paths)
        command = f"mkdir -p {' '.join(folders)} && {write}"
        stages[name] = {
            "cmd": "false" if name == failing else command,
            "deps": list(before),
            "outs": [path for path in paths if is_cached(path.removeprefix("data/"))],
            "metrics": [
                {path: {"cache": False}}
                for path in paths
                if not is_cached(path.removeprefix("data/"))
            ],
        }
        before = paths[:1]
    (root / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}, sort_keys=False))
    assert run(root, "git", "init", "-q").returncode == 0
    for words in (["init", "-q"], ["config", "core.analytics", "false"]):
        assert run(root, sys.executable, "-m", "dvc", *words).returncode == 0
    return root


def ignore_files(root: Path) -> dict[str, bytes]:
    files = sorted((root / "data").rglob(".gitignore"))
    return {file.relative_to(root).as_posix(): file.read_bytes() for file in files}


def test_the_entries_are_those_of_dvc_and_outlive_a_failed_run(tmp_path: Path) -> None:
    # given what DVC writes in a run without failures
    plain = project(tmp_path / "plain")
    done = run(plain, sys.executable, "-m", "dvc", "repro")
    assert done.returncode == 0, done.stderr
    expected = ignore_files(plain)
    assert len(expected) == 3
    # when they are written first, and a stage fails
    failed = project(tmp_path / "failed", failing="compress")
    ignore_outputs(failed, "data")
    assert ignore_files(failed) == expected
    assert run(failed, sys.executable, "-m", "dvc", "repro").returncode != 0
    # then they still stand, so that git stages no weights
    assert ignore_files(failed) == expected
    assert (failed / "data" / "models" / "trained").is_file()
    assert run(failed, "git", "add", "-A").returncode == 0
    staged = set(run(failed, "git", "ls-files").stdout.split())
    assert not staged & set(cached_outputs("data"))
    assert "data/reports/train.json" in staged
    check_not_in_git(failed, "data", STAGES, again="dvc repro")


def test_other_rules_of_a_person_are_left_alone(tmp_path: Path) -> None:
    root = tmp_path / "p"
    (root / "data" / "models").mkdir(parents=True)
    run(root, "git", "init", "-q")
    (root / ".gitignore").write_text("/data/raw/\n*.csv\n")
    (root / "data" / "models" / ".gitignore").write_text("# mine\n/trained\nlast")
    ignore_outputs(root, "data")
    assert "/raw" not in (root / "data" / ".gitignore").read_text().split()
    models = (root / "data" / "models" / ".gitignore").read_text()
    assert models == "# mine\n/trained\nlast\n/tuned\n/compressed\n/winner\n"
    before = ignore_files(root)
    ignore_outputs(root, "data")
    assert ignore_files(root) == before


def test_without_git_nothing_is_written(tmp_path: Path) -> None:
    ignore_outputs(tmp_path, "data")
    assert not list(tmp_path.iterdir())
    check_not_in_git(tmp_path, "data", STAGES, again="dvc repro")


def test_outputs_in_git_are_named_with_a_command_that_mends_it(tmp_path: Path) -> None:
    root = tmp_path / "p"
    weights = root / "data" / "models" / "trained" / "ä b"
    weights.mkdir(parents=True)
    (weights / "w.safetensors").write_text("w")
    (root / "data" / "raw").mkdir()
    (root / "data" / "raw" / "part.parquet").write_text("p")
    run(root, "git", "init", "-q")
    run(root, "git", "add", "-A")
    with pytest.raises(InputError) as error:
        check_not_in_git(root, "data", STAGES, again="gristmill run")
    assert "data/models/trained/ä b/w.safetensors" in error.value.what
    command, _, rest = error.value.remedy.partition(" (")
    assert command == "git rm -r -q --cached -- data/raw data/models/trained"
    assert rest.endswith("then: gristmill run")
    # Only what the stages write matters to them.
    check_not_in_git(root, "data", ["clean", "tune"], again="dvc repro")
    assert run(root, *command.split()).returncode == 0
    check_not_in_git(root, "data", STAGES, again="gristmill run")
    assert (weights / "w.safetensors").is_file()
