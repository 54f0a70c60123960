"""Resumable state: what its key covers, and what is dropped when a stage has ended."""

from __future__ import annotations

import ast
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from components.cli.main import app
from components.orchestration.locks import only_one
from components.orchestration.pipeline_params import Params, load
from components.orchestration.project import FRESH
from components.orchestration.retraining import run_record
from components.orchestration.runner import run, stage_task
from components.orchestration.runner.resumable_state import (
    clear_others,
    code_digest,
    discard_leftovers,
    leftovers,
    state_folder,
)
from components.stages.tune.study import STUDIES

ROOT = Path(__file__).resolve().parents[3]


def key(params: Params, **knobs: Any) -> str:
    """The state key of tune with other knobs."""
    section = params.sections["tune"]
    twin = type(section).model_validate(section.model_dump() | knobs)
    return state_folder(
        ROOT, replace(params, sections={**params.sections, "tune": twin}), "tune", {}
    ).name


def test_more_of_a_search_goes_on_with_its_state_and_another_search_does_not() -> None:
    params = load(ROOT / "params.yaml")
    same: list[dict[str, Any]] = [
        {"trials": 12},
        {"time_budget_s": 5.0},
        {"total_epochs": 3},
        {"cpus_per_trial": 2.0},
        {"gpus_per_trial": 1.0},
        {"workers_per_trial": 2},
        {"trial_timeout_s": 9.0},
        {"pending_timeout_s": 9.0},
        {"warm_start": 5},
    ]
    others: list[dict[str, Any]] = [
        {"searcher": "optuna"},
        {"scheduler": "none"},
        {"epochs": 3},
        {"reduction_factor": 3},
        {"space": {"learning_rate": {"uniform": [0.1, 0.2]}}},
    ]
    assert {key(params, **knobs) for knobs in same} == {key(params)}
    assert (
        len(
            {key(params), *(key(params, **knobs) for knobs in others), key(replace(params, seed=8))}
        )
        == len(others) + 2
    )


def test_the_code_of_a_fit_is_parsed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    digest = code_digest(ROOT, "text_classification")
    monkeypatch.setattr(ast, "parse", lambda _: pytest.fail("parsed again"))
    assert code_digest(ROOT, "text_classification") == digest


def test_fresh_reaches_the_stages_through_dvc(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[dict[str, str]] = []
    stages: list[bool] = []
    monkeypatch.setattr(
        run, "_follow", lambda words, root, environment: seen.append(environment) or 130
    )
    monkeypatch.setattr(run, "_release_cluster", lambda root: None)
    monkeypatch.setattr(run_record, "begin", lambda root, params: None)
    monkeypatch.setattr(
        stage_task, "run_stage", lambda root, name, params, fresh: stages.append(fresh)
    )
    for fresh in (True, False):
        assert run.run_pipeline(ROOT, "default", fresh) == 130
        assert (
            CliRunner().invoke(app, ["stage", "tune"], env={FRESH: seen[-1].get(FRESH)}).exit_code
            == 0
        )
    assert stages == [True, False]


def test_a_population_of_another_size_is_another_search() -> None:
    params = load(ROOT / "params.yaml")
    pbt = {"scheduler": "pbt", "space": {"learning_rate": {"uniform": [0.1, 0.2]}}}
    assert (
        key(params, **pbt, trials=9)
        != key(params, **pbt)
        != key(params, **pbt, perturb_epochs=1, epochs=3)
    )
    assert key(params, **pbt, total_epochs=3) == key(params, **pbt)


def test_records_of_studies_outlive_the_states_beside_them(tmp_path: Path) -> None:
    # given the states of two searches and the records of some
    tune = tmp_path / "data" / ".state" / "tune"
    for name in ("k1", "k2", STUDIES):
        (tune / name).mkdir(parents=True)
        (tune / name / "file.json").write_text("{}")
    assert [folder.name for folder, _ in leftovers(tmp_path)] == ["k1", "k2"]
    # when one of them has ended
    clear_others(tune / "k1")
    # then the other state goes, the records stay
    assert sorted(folder.name for folder in tune.iterdir()) == ["k1", STUDIES]


def test_clean_state_leaves_what_runs(tmp_path: Path) -> None:
    for name in ("train/k1", "tune/k2", "predict/k3"):
        (tmp_path / "data" / ".state" / name).mkdir(parents=True)
    with (
        only_one(tmp_path / "data" / ".state" / "train.lock", "stage train"),
        only_one(tmp_path / "data" / ".state" / "predict" / "k3.lock", "a batch"),
    ):
        lines = list(discard_leftovers(tmp_path))
    assert [folder.name for folder, _ in leftovers(tmp_path)] == ["k3", "k1"]
    assert (
        any(
            line.startswith("data/.state/train/k1 stays: train is under way already")
            for line in lines
        )
        and "removed data/.state/tune/k2 (0.0 MB)" in lines
    )
    assert len(list(discard_leftovers(tmp_path))) == 2 and list(discard_leftovers(tmp_path)) == [
        "nothing to clean: no stage was left unfinished"
    ]
