"""Results of stages: whole or not at all, found again until DVC's lock names them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from components.orchestration.pipeline_params import load
from components.orchestration.runner.stage_results import (
    RESULT,
    Result,
    drop_locked_results,
    drop_results,
    find_result,
    keep_only_result,
    keep_result,
    make_twins,
    publish_result,
    result_key,
)

ROOT = Path(__file__).resolve().parents[3]
OLD = {"data/clean/old.parquet": "old", "data/report.json": "old"}
NEW = {"data/clean/new.parquet": "new", "data/report.json": "new"}
DVC = """
stages:
  ingest:
    cmd: "true"
    outs: [{data/raw: {persist: true}}]
    metrics: [{data/reports/ingest.json: {cache: false, persist: true}}]
"""


class Stage:
    """A stage with a folder and a file as outputs, of which an earlier run left some."""

    def __init__(self, root: Path) -> None:
        self.root, self.state = root, root / "data" / ".state" / "clean" / "key"
        self.outputs = {"clean": root / "data" / "clean", "report": root / "data" / "report.json"}
        (root / "data" / "clean").mkdir(parents=True)
        (root / "data" / "clean" / "old.parquet").write_text("old")
        (root / "data" / "report.json").write_text("old")

    def work(self, key: str = "k") -> Result:
        """Write the outputs, and keep them."""
        twins = make_twins(self.state, self.outputs)
        twins["clean"].mkdir()
        (twins["clean"] / "new.parquet").write_text("new")
        twins["report"].write_text("new")
        return keep_result(self.state, key, self.root, self.outputs, 1.0)

    def content(self) -> dict[str, str]:
        """Return the files that are no state."""
        files = sorted(path for path in self.root.rglob("*") if path.is_file())
        relative = {path.relative_to(self.root).as_posix(): path for path in files}
        return {name: path.read_text() for name, path in relative.items() if ".state" not in name}


def no_record(_: Mapping[str, Path]) -> None:
    """Record nothing."""


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path)


def test_outputs_show_when_they_are_published_and_take_no_second_space(stage: Stage) -> None:
    result = stage.work()
    assert stage.content() == OLD
    recorded: list[str] = []
    publish_result(result, stage.outputs, lambda twins: recorded.extend(twins))
    assert stage.content() == NEW
    assert recorded == ["clean", "report"]
    kept = result.file("clean") / "new.parquet"
    assert kept.samefile(stage.root / "data" / "clean" / "new.parquet")
    assert [path.name for path in stage.state.iterdir()] == [RESULT]


def test_a_result_is_found_by_its_key_alone_and_can_be_published_again(stage: Stage) -> None:
    stage.work()
    (stage.state / "checkpoints").mkdir()
    (stage.state / "journal.jsonl").write_text("")
    keep_only_result(stage.state)
    assert find_result(stage.state, "other code") is None
    result = find_result(stage.state, "k")
    assert result is not None and result.work_s == 1.0 and not result.is_tracked
    result.mark_tracked()
    assert result.is_tracked
    for _ in range(2):
        publish_result(result, stage.outputs, no_record)
        assert stage.content() == NEW


@pytest.mark.parametrize("harm", ["changed", "missing", "half a card"])
def test_a_result_that_is_not_whole_is_none(stage: Stage, harm: str) -> None:
    result = stage.work()
    publish_result(result, stage.outputs, no_record)
    if harm == "changed":
        # A person edits the published file in place, which is the same file.
        (stage.root / "data" / "clean" / "new.parquet").write_text("edited")
    if harm == "missing":
        result.file("report").unlink()
    if harm == "half a card":
        card = result.folder / "card.json"
        card.write_text(card.read_text()[:40])
    assert find_result(stage.state, "k") is None


def test_an_output_that_was_not_written_is_no_result(stage: Stage) -> None:
    make_twins(stage.state, stage.outputs)["report"].write_text("new")
    with pytest.raises(RuntimeError, match=r"did not write .*clean"):
        keep_result(stage.state, "k", stage.root, stage.outputs, 1.0)
    assert find_result(stage.state, "k") is None and stage.content() == OLD


def test_a_target_that_cannot_be_replaced_brings_the_others_back(stage: Stage) -> None:
    result = stage.work()
    blocked = {**stage.outputs, "report": stage.root / "data" / "report.json" / "in-a-file.json"}
    with pytest.raises(OSError):
        publish_result(replace(result, outputs=result.outputs), blocked, no_record)
    assert stage.content() == OLD
    assert find_result(stage.state, "k") is not None


def test_a_file_system_without_links_gets_copies(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "link", refuse)
    publish_result(stage.work(), stage.outputs, no_record)
    assert stage.content() == NEW


def test_the_key_covers_what_the_inputs_do_not_say(tmp_path: Path) -> None:
    params = load(ROOT / "params.yaml")
    code = tmp_path / "components" / "stages" / "train" / "stage.py"
    code.parent.mkdir(parents=True)
    code.write_text("a")
    before = {stage: result_key(tmp_path, params, stage) for stage in ("ingest", "clean", "train")}
    assert before == {stage: result_key(tmp_path, params, stage) for stage in before}

    source = tmp_path / str(params.sections["ingest"].source.path)  # type: ignore[attr-defined]
    source.parent.mkdir(parents=True, exist_ok=True)
    source.write_text("text,label\n")
    assert result_key(tmp_path, params, "ingest") != before["ingest"]
    assert result_key(tmp_path, params, "clean") == before["clean"]

    train = params.sections["train"].model_copy(update={"epochs": 99})
    more = replace(params, sections={**params.sections, "train": train})
    assert result_key(tmp_path, more, "train") != before["train"]
    code.write_text("b")
    assert result_key(tmp_path, params, "train") != before["train"]


def test_a_result_goes_when_the_lock_of_dvc_names_it(tmp_path: Path) -> None:
    # given a result that was published, before DVC has run
    params = load(ROOT / "params.yaml")
    outputs = {"raw": tmp_path / "data/raw", "report": tmp_path / "data/reports/ingest.json"}
    state = tmp_path / "data" / ".state" / "ingest" / "key"

    def work(text: str) -> None:
        twins = make_twins(state, outputs)
        (twins["raw"] / "deep").mkdir(parents=True)
        (twins["raw"] / "b").write_text(text)
        (twins["raw"] / "deep" / "ä").write_text("a")
        twins["report"].write_text("{}")
        result = keep_result(state, "k", tmp_path, outputs, 1.0)
        publish_result(result, outputs, no_record)

    work("b")
    (tmp_path / "dvc.yaml").write_text(DVC)
    drop_locked_results(tmp_path, params)
    assert find_result(state, "k") is not None
    # when DVC has locked it
    for words in (
        ["init", "-q", "--no-scm"],
        ["config", "core.analytics", "false"],
        ["repro", "-q"],
    ):
        subprocess.run([sys.executable, "-m", "dvc", *words], cwd=tmp_path, check=True)
    # then it stays while its own stage runs, and goes when another one starts
    drop_locked_results(tmp_path, params, running="ingest")
    assert find_result(state, "k") is not None
    drop_locked_results(tmp_path, params, running="clean")
    assert not state.exists()
    # and another result of the same stage stays
    work("B")
    drop_locked_results(tmp_path, params)
    assert find_result(state, "k") is not None
    # until a run has ended well
    drop_results(tmp_path, params)
    assert not state.exists()
