"""Searchers: grid, random and TPE give the values of a trial from its number and from what is known, and from nothing else."""

from __future__ import annotations

import math
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError
from stage_runner import TEXT

from components.orchestration.pipeline_params import section_model
from components.stages.tune.params import TuneParams
from components.stages.tune.searchers import asker, combinations
from components.stages.tune.study import MonitoredMetric, Trial

TRAIN: BaseModel = section_model("train", TEXT).model_validate({"architecture": "textcnn"})
WATCHED = MonitoredMetric("validation_f", "max")
COUNTED: dict[str, Any] = {
    "architecture": {"choice": ["textcnn", "transformer"]},
    "batch_size": {"choice": [2, 64]},  # two workers need four rows: train refuses the first
    "nets.textcnn.kernels": {"choice": [[1, 2], [1, 2, 3]]},
    "nets.transformer.layers": {"int": [1, 3]},
    "optimizer": {"choice": ["adam", "sgd"]},
    "momentum": {"choice": [0.5, 0.9], "when": {"optimizer": ["sgd"]}},
}
MIXED: dict[str, Any] = {
    "architecture": {"choice": ["textcnn", "transformer"]},
    "learning_rate": {"loguniform": [1e-4, 1e-2]},
    "batch_size": {"int": [2, 64]},
    "nets.textcnn.kernels": {"choice": [[1, 2], [1, 2, 3]]},
    "nets.transformer.dropout": {"uniform": [0.0, 0.2]},
}


def params(searcher: str, space: dict[str, Any], **more: Any) -> TuneParams:
    """As params.yaml gives them."""
    return TuneParams.model_validate({"searcher": searcher, "space": space, **more})


def test_a_grid_is_all_allowed_combinations_once() -> None:
    grid = list(combinations(params("grid", COUNTED).space, TRAIN))
    # 2 kernels + 3 layers, times adam once and sgd with two momenta
    assert len(grid) == len({str(values) for values in grid}) == (2 + 3) * (1 + 2)
    assert all(
        values["batch_size"] == 64 and ("momentum" in values) == (values["optimizer"] == "sgd")
        for values in grid
    )
    assert {
        values["nets.transformer.layers"]
        for values in grid
        if values["architecture"] == "transformer"
    } == {1, 2, 3}

    ask = asker(params("grid", COUNTED, trials=100), TRAIN, 7, WATCHED)
    assert [ask(number, []) for number in range(16)] == [*grid, None]


def test_a_grid_over_real_numbers_is_refused() -> None:
    with pytest.raises(
        ValidationError,
        match=r"searcher grid needs values that can be counted, and space.learning_rate, space.nets.transformer.dropout are ranges",
    ):
        params("grid", MIXED)


def found(searcher: str, count: int, seed: int = 7) -> list[Trial]:
    """A search without machines: the figure is best at a learning rate of 1e-3; every fifth trial fails, every seventh is stopped, the newest still runs."""
    ask, trials = asker(params(searcher, MIXED), TRAIN, seed, WATCHED), list[Trial]()
    for number in range(count):
        values = ask(number, trials)
        assert values is not None
        row = {"epoch": 1.0, "validation_f": -abs(math.log10(values["learning_rate"]) + 3)}
        for trial in trials[-1:]:
            trial.outcome = (
                "failed" if number % 5 == 0 else "stopped" if number % 7 == 0 else "finished"
            )
        trials.append(Trial(number, values, [row]))
    return trials


@pytest.mark.parametrize("searcher", ["random", "optuna"])
def test_a_searcher_asks_the_same_again(searcher: str) -> None:
    trials = found(searcher, 14)
    assert [trial.values for trial in found(searcher, 14)] == [trial.values for trial in trials]
    assert [trial.values for trial in found(searcher, 14, seed=8)] != [
        trial.values for trial in trials
    ]
    # a searcher that has just been made, as after a kill, goes on as the one before would have
    before = [
        Trial(each.number, each.values, each.rows, each.outcome if each.number < 12 else None)
        for each in trials[:13]
    ]
    assert asker(params(searcher, MIXED), TRAIN, 7, WATCHED)(13, before) == trials[13].values


def test_optuna_searches_where_it_has_found_more() -> None:
    def miss(trials: list[Trial]) -> float:
        return sum(abs(math.log10(trial.values["learning_rate"]) + 3) for trial in trials) / len(
            trials
        )

    trials = found("optuna", 50)
    assert miss(trials[25:]) < 0.75 * miss(found("random", 50)[25:])
    for trial in trials:  # the space is conditional for it too
        assert ("nets.textcnn.kernels" in trial.values) == (
            trial.values["architecture"] == "textcnn"
        )
        assert trial.values["batch_size"] >= 4
