"""Trials are read back from a real store as the mirror wrote them; whatever is wrong with it is one kind of error, in time."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path
from typing import Any

import pytest

from components.core.errors import EnvironmentFault
from components.core.job import Journal
from components.registry.store import tracking_store
from components.registry.tracking import trials
from components.registry.tracking.runs import track
from components.registry.tracking.trials import best_trials

METRIC = "validation_recall@10"  # a name that MLflow does not take


def searched(
    root: Path,
    token: str,
    rows: dict[str, tuple[dict[str, Any], list[float]]],
    task: str = "any",
    stage: str = "tune",
    pipeline: str = "default",
) -> None:
    """A search that logs trials: child -> values and curve."""
    state = root / ".state" / token
    journal = Journal(state / "journal.jsonl")
    with track(
        root,
        pipeline,
        stage,
        token,
        journal.path,
        state / "mlflow.json",
        tags={"task": task},
        params={"tune.epochs": 2},
        show=print,
    ):
        for child, (values, curve) in rows.items():
            journal.params(values, child)
            for step, figure in enumerate(curve, 1):
                journal.metrics({METRIC: figure, "epoch": step}, step, child)


def found(root: Path, goal: str = "max", **more: Any) -> list[trials.LoggedTrial]:
    return best_trials(root, "default", "any", "tune", METRIC, goal, **more)


def test_the_best_trials_of_a_task_are_read_back_in_order(root: Path) -> None:
    # given two searches, one trial that failed at once, another task, another stage, another pipeline
    assert found(root) == []
    values = {
        "architecture": "textcnn",
        "learning_rate": 0.00123456789012345,
        "nets.textcnn.kernels": [1, 2],
    }
    searched(
        root,
        "one",
        {
            "trial-0000": (values, [0.9, 0.5]),
            "trial-0001": ({"a": 1}, [0.7]),
            "trial-0002": ({"a": 2}, []),
        },
    )
    searched(
        root,
        "two",
        {"trial-0000": ({"a": 3}, [0.4, 0.6]), "trial-0001": ({"a": 4}, [float("nan")])},
    )
    searched(root, "three", {"trial-0000": ({"a": 5}, [0.8])}, task="other")
    searched(root, "four", {"trial-0000": ({"a": 6}, [0.8])}, stage="compress")
    searched(root, "five", {"trial-0000": ({"a": 7}, [0.8])}, pipeline="elsewhere")
    # then those with a figure are there, by their last one, with values as text
    best = found(root)
    assert [dict(trial.params) for trial in best] == [
        {"a": "1"},
        {"a": "3"},
        {path: str(value) for path, value in values.items()},
    ]
    assert [trial.params for trial in found(root, "min")] == [
        trial.params for trial in reversed(best)
    ]
    assert len({trial.search for trial in best}) == 2
    assert best[0].search == best[2].search
    # and of an experiment that was deleted none
    opened = tracking_store.client(root)
    opened.delete_experiment(tracking_store.experiment(opened, root, "default"))
    assert found(root) == []
    assert opened.get_experiment_by_name("default").lifecycle_stage == "deleted"


def test_a_store_that_is_not_there_yet_is_not_made(tmp_path: Path) -> None:
    assert found(tmp_path) == []
    assert not list(tmp_path.iterdir())


def test_a_store_that_is_locked_slow_or_away_is_one_kind_of_error(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(tracking_store, "LOCK_SECONDS", 0.1)
        holder = sqlite3.connect(root / "mlflow" / "mlflow.db", isolation_level=None)
        holder.execute("BEGIN EXCLUSIVE")
        with pytest.raises(EnvironmentFault, match="locked"):
            found(root)
        holder.close()
    with monkeypatch.context() as patch:
        patch.setattr(trials, "_read_trials", lambda *_: time.sleep(3))
        with pytest.raises(EnvironmentFault, match=r"MLflow did not answer in 0\.1 s"):
            found(root, patience=0.1)
    with monkeypatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
        patch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        with pytest.raises(EnvironmentFault, match="MLflow does not answer"):
            found(root)
    monkeypatch.setattr(trials, "_read_trials", lambda *_: {}["a mistake of ours"])
    with pytest.raises(EnvironmentFault, match="MLflow refused: KeyError"):
        found(root)
