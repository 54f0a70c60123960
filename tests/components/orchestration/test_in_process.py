"""Which stages do without Ray: those on few rows, unless params or the environment ask for it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import psutil
import pytest

from components.core.tables import MANIFEST
from components.orchestration.pipeline_params import Params, load
from components.orchestration.runner import in_process
from components.orchestration.runner.in_process import runs_in_process, start_ray_early

ROOT = Path(__file__).parents[3]


class Pipeline:
    """The shipped params, some changed, over tables of made-up sizes."""

    def __init__(self, root: Path) -> None:
        self.root, self.data = root, root / "data"
        self.shipped = load(ROOT / "params.yaml")

    def rows(self, folder: str, count: int) -> None:
        (self.data / folder).mkdir(parents=True, exist_ok=True)
        (self.data / folder / MANIFEST).write_text(
            json.dumps({"schema": {}, "shards": [], "rows": count}), encoding="utf-8"
        )

    def alone(
        self, stage: str, limit: int = 1000, storage: str | None = None, **sections: Any
    ) -> bool:
        found = dict(self.shipped.sections)
        for name, changes in sections.items():
            found[name] = found[name].model_copy(update=changes)
        cluster = self.shipped.cluster.model_copy(
            update={"in_process_rows": limit, "storage": storage}
        )
        params = Params(
            self.shipped.task, 7, self.shipped.pipeline, cluster, self.shipped.monitor, found
        )
        return runs_in_process(params, stage, self.data, self.root)


@pytest.fixture
def pipeline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Pipeline:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    return Pipeline(tmp_path)


@pytest.mark.parametrize(
    ("stage", "folder"),
    [("clean", "raw"), ("augment", "clean"), ("tokenize", "augmented"), ("evaluate", "tokens")],
)
def test_the_largest_table_that_a_stage_reads_decides(
    pipeline: Pipeline, stage: str, folder: str
) -> None:
    assert not pipeline.alone(stage)
    pipeline.rows(folder, 1000)
    assert pipeline.alone(stage)
    pipeline.rows(folder, 1001)
    assert not pipeline.alone(stage)


def test_what_asks_for_ray_gets_it(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline.rows("raw", 10)
    assert not pipeline.alone("clean", limit=0)
    assert not pipeline.alone("clean", storage="/shared")
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    assert not pipeline.alone("clean")


def test_several_workers_and_a_search_need_ray(pipeline: Pipeline) -> None:
    pipeline.rows("tokens", 10)
    assert not pipeline.alone("train", train={"workers": 2})
    assert pipeline.alone("train", train={"workers": 1})
    recipes = {"recipes": {"pruned": ["prune"]}}
    assert not pipeline.alone("compress", train={"workers": 2}, compress=recipes)
    assert pipeline.alone("compress", train={"workers": 1}, compress=recipes)
    assert not pipeline.alone("tune")


def test_a_release_of_little_data_needs_no_process_beside_the_replicas(pipeline: Pipeline) -> None:
    pipeline.rows("clean", 10)
    assert pipeline.alone("serve")
    assert not pipeline.alone("serve", limit=0)
    pipeline.rows("clean", 1001)
    assert not pipeline.alone("serve")


def test_a_skipped_step_needs_none_however_many_rows_there_are(pipeline: Pipeline) -> None:
    pipeline.rows("tokens", 10**9)
    assert pipeline.alone("tune", tune={"trials": 0})
    assert pipeline.alone("compress", compress={"recipes": {}})
    off = {"prune": None, "quantize": None, "distill": None}
    recipes = {"pruned": ["prune"], "int8": ["quantize"], "distilled": ["distill"]}
    assert pipeline.alone("compress", compress=off | {"recipes": recipes})


def test_a_source_counts_by_its_bytes(pipeline: Pipeline) -> None:
    source = (
        type(pipeline.shipped.sections["ingest"])
        .model_validate({"source": {"kind": "files", "path": "mine"}, "columns": {}})
        .source
    )  # type: ignore[attr-defined]
    folder = pipeline.root / "mine" / "inner"
    folder.mkdir(parents=True)
    (folder / "a.csv").write_bytes(b"x" * 600_000)
    assert pipeline.alone("ingest", ingest={"source": source})
    (folder / "b.csv").write_bytes(b"x" * 600_000)
    assert not pipeline.alone("ingest", ingest={"source": source})
    assert not pipeline.alone("ingest"), "a package has no size that could be told"


def test_ray_starts_early_for_the_run_that_will_need_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[list[str]] = []
    monkeypatch.setattr(in_process.subprocess, "Popen", lambda words, **_: started.append(words))
    parent = psutil.Process().parent()
    assert parent is not None
    start_ray_early("clean", tmp_path, parent)
    start_ray_early("train", tmp_path, psutil.Process(os.getpid()))
    assert started == []
    start_ray_early("train", tmp_path, parent)
    assert started[0][-2:] == [str(tmp_path), str(parent.pid)]
