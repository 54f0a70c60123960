"""The account of a search, as the report reads it."""

from __future__ import annotations

from components.core.files import to_json
from components.stages.tune.params import TuneParams
from components.stages.tune.search_report import account, rungs
from components.stages.tune.study import MonitoredMetric, Outcome, Trial


def trial(number: int, epochs: int, outcome: Outcome) -> Trial:
    """With a figure per epoch."""
    return Trial(
        number,
        {"learning_rate": 0.1},
        [{"epoch": epoch + 1.0, "validation_f": epoch / 10} for epoch in range(epochs)],
        outcome,
    )


TRIALS = [
    trial(0, 4, "finished"),
    trial(1, 1, "stopped"),
    trial(2, 2, "stopped"),
    trial(3, 0, "failed"),
    trial(4, 1, "failed"),
    trial(5, 4, "finished"),
]


def test_each_trial_ends_on_one_rung() -> None:
    assert rungs(TRIALS) == [
        {"epoch": 0, "reached": 6, "went_on": 5, "stopped": 0, "finished": 0, "failed": 1},
        {"epoch": 1, "reached": 5, "went_on": 3, "stopped": 1, "finished": 0, "failed": 1},
        {"epoch": 2, "reached": 3, "went_on": 2, "stopped": 1, "finished": 0, "failed": 0},
        {"epoch": 4, "reached": 2, "went_on": 0, "stopped": 0, "finished": 2, "failed": 0},
    ]
    assert rungs([]) == []


def test_the_account_holds_curves_and_the_forecast() -> None:
    params = TuneParams.model_validate(
        {"space": {"learning_rate": {"uniform": [0.0, 1.0]}}, "reduction_factor": 4, "epochs": 4}
    )
    told = account(TRIALS, params, MonitoredMetric("validation_f", "max"), "epochs")
    assert told["forecast"] == "6 trials < 2 x reduction factor 4: ASHA will stop little"
    assert told["trials"][2] == {
        "trial": 2,
        "params": {"learning_rate": 0.1},
        "curve": [0.0, 0.1],
        "status": "stopped",
    }
    assert (told["watch"], told["goal"], told["ended_by"]) == ("validation_f", "max", "epochs")
    assert to_json(told)
