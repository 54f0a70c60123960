"""Files in outputs that no run wrote: found, named, and never deleted."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from itertools import chain
from pathlib import Path

import pytest
import yaml

from components.core.errors import InputError
from components.orchestration import untracked_files as module
from components.orchestration.stage_files import STAGES
from components.orchestration.untracked_files import (
    CACHED_REPORTS,
    check_untracked,
    record_outputs,
    untracked,
)

DVC = """
stages:
  ingest:
    cmd: >-
      python -c "import pathlib as p; f = p.Path('data/raw'); f.mkdir(parents=True);
      (f / 'a').write_text('a'); (f / 'b').write_text('b')"
    outs: [data/raw]
  tune:
    cmd: >-
      python -c "import pathlib as p; f = p.Path('data/reports'); f.mkdir();
      (f / 'trials.csv').write_text('t'); (f / 'tune.json').write_text('{}')"
    outs: [data/reports/trials.csv]
    metrics: [{data/reports/tune.json: {cache: false}}]
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose outputs DVC has written, with a lock and a cache and without records of
    ours.
    """
    root = tmp_path_factory.mktemp("dvc") / "p"
    root.mkdir()
    (root / "dvc.yaml").write_text(DVC)
    for words in (
        ["init", "-q", "--no-scm"],
        ["config", "core.analytics", "false"],
        ["repro", "-q"],
    ):
        subprocess.run(
            [sys.executable, "-m", "dvc", *words],
            cwd=root,
            check=True,
            env=os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        )
    return root


@pytest.fixture
def root(made: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    shutil.copytree(made, tmp_path / "p", symlinks=True)
    return tmp_path / "p"


def found(root: Path) -> list[str]:
    return untracked(root, "data", root / "dvc.lock")


def test_what_dvc_wrote_is_known_and_written_down(root: Path) -> None:
    assert found(root) == []
    shutil.rmtree(root / ".dvc")
    (root / "dvc.lock").unlink()
    # The files that were compared with the cache are in the records now; the report that DVC does
    # not cache, too.
    assert found(root) == []


def test_added_and_changed_files_are_named(root: Path) -> None:
    (root / "data" / "raw" / "notes ~.txt").write_text("mine")
    (root / "data" / "raw" / "deep").mkdir()
    (root / "data" / "raw" / "deep" / "more").write_text("mine, too")
    (root / "data" / "raw" / "b").write_text("B")
    (root / "data" / "raw" / "link").symlink_to("/nowhere")
    (root / "data" / "reports" / "trials.csv").write_text("my own table")
    (root / "data" / "reports" / "notes.md").write_text("in no output")
    (root / "data" / "raw" / ".DS_Store").write_text("a file manager's")
    expected = [
        "data/raw/b",
        "data/raw/deep/more",
        "data/raw/link",
        "data/raw/notes ~.txt",
        "data/reports/trials.csv",
    ]
    assert found(root) == expected
    with pytest.raises(
        InputError, match="would delete 5 files that no run wrote or that a person changed"
    ) as error:
        check_untracked(root, "default", "data", root / "dvc.lock", again="gristmill run")
    assert (
        all(name in str(error.value) for name in expected)
        and "data/sources/default/" in error.value.remedy
        and "gristmill run" in error.value.remedy
    )
    # Later stages only: what an earlier one wrote is not replaced.
    assert untracked(root, "data", root / "dvc.lock", ["tune"]) == ["data/reports/trials.csv"]


def test_outputs_of_another_commit_are_known_by_the_cache(root: Path) -> None:
    (root / "dvc.lock").unlink()
    assert found(root) == ["data/reports/tune.json"]


def test_a_first_run_finds_files_that_are_there(tmp_path: Path) -> None:
    (tmp_path / "data" / "own" / "raw").mkdir(parents=True)
    (tmp_path / "data" / "own" / "raw" / "mine.csv").write_text("a")
    assert untracked(tmp_path, "data/own", tmp_path / "dvc.lock") == ["data/own/raw/mine.csv"]
    (tmp_path / "dvc.lock").write_text("broken: [")
    assert untracked(tmp_path, "data/own", tmp_path / "dvc.lock") == ["data/own/raw/mine.csv"]


def test_links_into_the_cache_are_known(root: Path) -> None:
    for file in (root / "data" / "raw").iterdir():
        digest = {"a": "0cc175b9c0f1b6a831c399e269772661", "b": "92eb5ffee6ae2fec3ad71c777531578f"}[
            file.name
        ]
        file.unlink()
        file.symlink_to(root / ".dvc" / "cache" / "files" / "md5" / digest[:2] / digest[2:])
    assert found(root) == []


def test_large_files_are_compared_by_size(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LARGE", 0)
    (root / "data" / "raw" / "c").write_text("a")
    assert found(root) == ["data/raw/c"]


def test_records_of_a_stage_cover_what_a_killed_run_published(tmp_path: Path) -> None:
    twins = {"raw": tmp_path / "twin" / "raw", "report": tmp_path / "twin" / "ingest.json"}
    twins["raw"].mkdir(parents=True)
    (twins["raw"] / "rows").write_text("a")
    twins["report"].write_text("{}")
    record_outputs(tmp_path, "data", "ingest", twins)
    (tmp_path / "data" / "reports").mkdir()
    twins["raw"].rename(tmp_path / "data" / "raw")
    twins["report"].rename(tmp_path / "data" / "reports" / "ingest.json")
    assert untracked(tmp_path, "data", tmp_path / "dvc.lock") == []
    (tmp_path / "data" / "raw" / "rows").write_text("b, changed")
    assert untracked(tmp_path, "data", tmp_path / "dvc.lock") == ["data/raw/rows"]
    (tmp_path / "data" / ".state" / "outputs" / "ingest.json").write_text("[1]")
    assert untracked(tmp_path, "data", tmp_path / "dvc.lock") == [
        "data/raw/rows",
        "data/reports/ingest.json",
    ]


def test_names_cannot_write_to_the_terminal(tmp_path: Path) -> None:
    (tmp_path / "data" / "raw").mkdir(parents=True)
    (tmp_path / "data" / "raw" / "\x1b[2J\n.txt").write_text("a")
    with pytest.raises(InputError) as error:
        check_untracked(tmp_path, "own", "data", tmp_path / "dvc.lock", again="gristmill run")
    assert "\x1b" not in str(error.value) and r"\x1b[2J\n.txt" in str(error.value)


def test_the_reports_that_dvc_caches_are_those_of_dvc_yaml() -> None:
    stages = yaml.safe_load((Path(__file__).parents[3] / "dvc.yaml").read_text())["stages"]
    cached = set()
    for stage in stages.values():
        cached |= {out.partition("/")[2] for out in stage.get("outs", ()) if isinstance(out, str)}
    outputs = set(chain.from_iterable(stage.outputs.values() for stage in STAGES.values()))
    assert {path for path in cached if path.endswith(".json")} == CACHED_REPORTS
    assert {path for path in outputs if not path.endswith(".json")} <= cached
