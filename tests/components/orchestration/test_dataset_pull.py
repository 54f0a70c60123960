"""Source `mlflow`: the table of an earlier run, by run or by name, verified by its hashes."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from components.core.errors import InputError, ParamsError
from components.core.files import sha256
from components.core.job import Journal
from components.core.params import validate
from components.core.tables import read_table, write_table
from components.orchestration.runner.dataset_pull import pull_dataset
from components.registry.store import tracking_store
from components.registry.tracking import datasets
from components.registry.tracking.datasets import LoggedDataset, describe_table, mlflow_fields
from components.registry.tracking.runs import track
from components.stages.ingest import mlflow_source
from components.stages.ingest.params import IngestParams, Mlflow
from components.stages.ingest.survey import survey

TABLE = pa.table(
    {
        "id": [f"r-{number}" for number in range(10)],
        "text": [f"第 {number} 行" for number in range(10)],
        "label": ["a", "b"] * 5,
        "split": ["train"] * 8 + ["test"] * 2,
    }
)


@pytest.fixture
def root(empty_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A project with an empty store."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    yield shutil.copytree(empty_store, tmp_path / "project")


def log(root: Path, table: pa.Table, token: str = "one") -> str:
    """Write a table as ingest does, let MLflow know it, and return the id of the run."""
    raw = root / "data" / "raw"
    shutil.rmtree(raw, ignore_errors=True)
    write_table(raw, {"rows": table}, rows_per_shard=6)
    state = root / "data" / ".state" / "ingest" / token
    journal = Journal(state / "journal.jsonl")
    cache = root / ".dvc" / "cache" / "files" / "md5"
    journal.dataset(mlflow_fields(describe_table(raw, raw, cache)))
    tags: dict[str, str] = {}
    with track(
        root,
        "reviews",
        "ingest",
        token,
        journal.path,
        state / "mlflow.json",
        tags=tags,
        params={},
        show=lambda event: None,
    ) as tracker:
        return str(tracker.run_id())


def source(**more: Any) -> Mlflow:
    """An `mlflow` source."""
    return Mlflow.model_validate({"kind": "mlflow", "path": "data/sources/earlier", **more})


def copied(root: Path) -> pa.Table:
    """The rows that ingest reads."""
    units = mlflow_source.units(source(dataset="reviews"), root)
    return pa.concat_tables(pa.parquet.read_table(unit.paths[0]) for unit in units)


def test_a_table_is_found_by_the_run_of_its_stage_and_of_its_pipeline(root: Path) -> None:
    run = log(root, TABLE)
    parent = tracking_store.client(root).get_run(run).data.tags["mlflow.parentRunId"]
    for number, one in enumerate((run, parent)):
        there = source(run=one, path=f"data/sources/{number}")
        assert pull_dataset(there, root, from_scratch=False) == 10
        units = mlflow_source.units(there, root)
        assert [unit.name for unit in units] == ["rows-00000.parquet", "rows-00001.parquet"]
        seen = survey(IngestParams.model_validate({"source": there.model_dump()}), root, {})
        assert seen.rows == 10


def test_the_newest_run_of_a_name_is_taken(root: Path) -> None:
    log(root, TABLE)
    by_name = source(dataset="reviews")
    assert pull_dataset(by_name, root, from_scratch=False) == 10
    assert pull_dataset(by_name, root, from_scratch=False) == 0
    assert pull_dataset(by_name, root, from_scratch=True) == 10
    log(root, TABLE.slice(0, 4), "two")
    assert pull_dataset(by_name, root, from_scratch=False) == 4
    assert copied(root).equals(TABLE.slice(0, 4))


def test_a_run_that_was_copied_needs_no_mlflow(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there = source(run=log(root, TABLE))
    assert pull_dataset(there, root, from_scratch=False) == 10
    monkeypatch.setattr(datasets, "client", pytest.fail)
    assert pull_dataset(there, root, from_scratch=False) == 0


def test_a_table_that_was_replaced_comes_from_the_cache_of_dvc(root: Path) -> None:
    run = log(root, TABLE)
    cache = root / ".dvc" / "cache" / "files" / "md5"
    for path in (root / "data" / "raw").glob("*.parquet"):
        digest = hashlib.md5(path.read_bytes()).hexdigest()
        (cache / digest[:2]).mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, cache / digest[:2] / digest[2:])
    log(root, TABLE.slice(0, 2), "two")
    assert pull_dataset(source(run=run), root, from_scratch=False) == 10
    assert copied(root).equals(TABLE)
    shutil.rmtree(cache)
    with pytest.raises(
        InputError, match=r"rows-00000.parquet of the run .* is neither in"
    ) as error:
        pull_dataset(source(run=run), root, from_scratch=True)
    assert "dvc fetch" in error.value.remedy
    # The copy of before is still there.
    assert copied(root).equals(TABLE)


def test_an_edited_copy_is_refused(root: Path) -> None:
    there = source(run=log(root, TABLE))
    with pytest.raises(InputError, match=r"holds no dataset yet\n.*gristmill pull"):
        mlflow_source.units(there, root)
    pull_dataset(there, root, from_scratch=False)
    path = root / "data" / "sources" / "earlier" / "rows-00001.parquet"
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(InputError, match=r"rows-00001.parquet: is missing or not what was copied"):
        mlflow_source.units(there, root)
    path.with_name("dataset.json").write_text('{"run": "a", "sha256": {"../../raw/a": "b"}}')
    with pytest.raises(InputError, match=r"dataset.json: does not describe a copied dataset"):
        mlflow_source.units(there, root)


def test_files_of_a_person_are_not_replaced(root: Path) -> None:
    folder = root / "data" / "sources" / "earlier"
    folder.mkdir(parents=True)
    (folder / "mine.csv").write_text("text\n")
    with pytest.raises(InputError, match=r"holds 'mine.csv', which is not of a copied dataset"):
        pull_dataset(source(run=log(root, TABLE)), root, from_scratch=False)
    assert (folder / "mine.csv").is_file()


@pytest.mark.parametrize("description", ["[]", "[" * 100_000, '{"run": "a", "sha256": {}}'])
def test_a_dataset_json_of_a_person_is_not_replaced(root: Path, description: str) -> None:
    photos = root / "data" / "sources" / "earlier" / "photos"
    photos.mkdir(parents=True)
    photos.with_name("dataset.json").write_text(description)
    there = source(run=log(root, TABLE))
    for from_scratch in (False, True):
        with pytest.raises(InputError, match=r"dataset.json: does not describe .*\n.*move the"):
            pull_dataset(there, root, from_scratch)
    assert photos.is_dir()


def test_a_file_beside_a_copy_is_not_deleted(root: Path) -> None:
    there = source(run=log(root, TABLE))
    pull_dataset(there, root, from_scratch=False)
    notes = root / "data" / "sources" / "earlier" / "notes.txt"
    notes.write_text("mine")
    with pytest.raises(InputError, match=r"holds 'notes.txt', which is not of a copied dataset"):
        pull_dataset(there, root, from_scratch=True)
    assert notes.is_file()


def test_runs_without_a_dataset(root: Path) -> None:
    run = log(root, TABLE)
    opened = tracking_store.client(root)
    empty = opened.create_run(opened.get_run(run).info.experiment_id).info.run_id
    for there, message in [
        (source(run=empty), f"the run {empty} logged no dataset"),
        (source(run="0" * 32), "MLflow has no run '000"),
        (source(dataset="others"), "no finished run has logged the dataset 'others'"),
    ]:
        with pytest.raises(InputError, match=message):
            pull_dataset(there, root, from_scratch=False)


def test_hostile_descriptions_are_refused(root: Path) -> None:
    run = log(root, TABLE)
    opened = tracking_store.client(root)
    real = opened.get_run(run).inputs.dataset_inputs[0].dataset
    secret = root / "secret.parquet"
    secret.write_bytes(b"secret")
    shard = {"file": secret.name, "rows": 1, "sha256": sha256(secret), "md5": "0" * 32}
    long_name = {"file": f"{'a' * 300}.parquet"}
    for change in ({"file": "../../secret.parquet"}, long_name, {"sha256": "x"}, {"md5": "../x"}):
        with pytest.raises(ValueError, match="pattern"):
            LoggedDataset.model_validate(
                {"place": "", "cache": "", "shards": [{**shard, **change}]}
            )
    with pytest.raises(ValueError, match="at least 1 item"):
        LoggedDataset(place="", cache="", shards=[])
    real._digest = "another"
    with pytest.raises(InputError, match=r"is none that ingest logged: its digest is another one"):
        datasets._read(real, run)
    for profile in ("[]", "[" * 100_000):
        real._profile = profile
        with pytest.raises(InputError, match=r"is none that ingest logged"):
            datasets._read(real, run)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({}, "takes one of run and dataset"),
        ({"run": "0" * 32, "dataset": "reviews"}, "takes one of run and dataset"),
        ({"run": "latest"}, "run"),
        ({"dataset": "a' OR name != '"}, "dataset"),
    ],
)
def test_params_that_are_refused(more: dict[str, str], message: str) -> None:
    section = {"source": {"kind": "mlflow", "path": "data/sources/earlier", **more}}
    with pytest.raises(ParamsError, match=message):
        validate(IngestParams, section, "params.yaml")


def test_a_resumed_stage_logs_its_table_once(root: Path) -> None:
    run = log(root, TABLE)
    log(root, TABLE)
    assert len(tracking_store.client(root).get_run(run).inputs.dataset_inputs) == 1
    assert read_table(root / "data" / "raw").num_rows == 10
