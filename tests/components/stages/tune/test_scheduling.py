"""What is said of a search before it begins: how many trials run at once, and what the scheduler will do to them."""

from __future__ import annotations

from typing import Any

import pytest

from components.core.errors import EnvironmentFault
from components.stages.tune.concurrency import at_once
from components.stages.tune.params import TuneParams
from components.stages.tune.schedulers import forecast, make_scheduler
from components.stages.tune.study import MonitoredMetric

SPACE = {"learning_rate": {"uniform": [0.1, 0.2]}}


def params(**knobs: Any) -> TuneParams:
    """As params.yaml gives them."""
    return TuneParams.model_validate({"space": SPACE, **knobs})


@pytest.mark.parametrize(
    ("knobs", "nodes", "fit"),
    [
        ({}, [{"CPU": 2.0}], 2),
        ({"cpus_per_trial": 0.5}, [{"CPU": 2.0}], 4),
        ({"cpus_per_trial": 0.1}, [{"CPU": 1.0}], 10),
        ({"cpus_per_trial": 3}, [{"CPU": 4.0}, {"CPU": 8.0}, {"CPU": 2.0}], 3),
        ({"workers_per_trial": 2}, [{"CPU": 3.0}, {"CPU": 2.0}], 2),
        (
            {"workers_per_trial": 3, "cpus_per_trial": 2},
            [{"CPU": 2.0}, {"CPU": 2.0}, {"CPU": 3.0}],
            1,
        ),
        ({"gpus_per_trial": 0.5}, [{"CPU": 8.0, "GPU": 1.0}, {"CPU": 8.0}], 2),
    ],
)
def test_trials_at_once(knobs: dict[str, Any], nodes: list[dict[str, float]], fit: int) -> None:
    assert at_once(params(**knobs), nodes) == fit


@pytest.mark.parametrize(
    ("knobs", "nodes", "says"),
    [
        (
            {"cpus_per_trial": 3},
            [{"CPU": 2.0}, {"CPU": 2.0}],
            r"tune.cpus_per_trial: a trial asks for 3 CPUs, the largest node has 2: it would wait for ever",
        ),
        (
            {"workers_per_trial": 3},
            [{"CPU": 2.0}],
            r"tune.workers_per_trial: a trial asks for 3 workers, the cluster has room for 2: it would wait for ever",
        ),
        (
            {"gpus_per_trial": 1},
            [{"CPU": 2.0}],
            r"tune.gpus_per_trial: a trial asks for 1 GPUs, the largest node has 0",
        ),
    ],
)
def test_what_fits_no_node_is_refused(
    knobs: dict[str, Any], nodes: list[dict[str, float]], says: str
) -> None:
    with pytest.raises(EnvironmentFault, match=says):
        at_once(params(**knobs), nodes)


@pytest.mark.parametrize(
    ("knobs", "trials", "says"),
    [
        ({"epochs": 2}, 8, "ASHA: after epoch 1 about 4 of 8 go on"),
        (
            {"epochs": 9, "reduction_factor": 3},
            27,
            "ASHA: after epoch 1 about 9 of 27 go on, after epoch 3 about 3 of 9 go on",
        ),
        (
            {"epochs": 8, "grace_epochs": 2},
            8,
            "ASHA: after epoch 2 about 4 of 8 go on, after epoch 4 about 2 of 4 go on",
        ),
        ({"epochs": 4}, 3, "3 trials < 2 x reduction factor 2: ASHA will stop little"),
        (
            {"epochs": 4, "grace_epochs": 4},
            8,
            "grace_epochs 4 is all of epochs 4: ASHA will stop nothing",
        ),
        ({"scheduler": "none"}, 8, ""),
    ],
)
def test_the_forecast(knobs: dict[str, Any], trials: int, says: str) -> None:
    assert forecast(params(**knobs), trials) == says


def test_the_rungs_of_the_forecast_are_those_of_ray() -> None:
    scheduler: Any = make_scheduler(
        params(epochs=9, reduction_factor=3), MonitoredMetric("validation_f", "max")
    )
    assert [milestone for milestone, _ in scheduler._brackets[0]._rungs if milestone < 9] == [3, 1]


@pytest.mark.parametrize(
    ("name", "kind"),
    [("none", "_Patient"), ("asha", "_Asha"), ("hyperband", "_HyperBand"), ("median", "_Median")],
)
def test_each_name_has_its_scheduler(name: str, kind: str) -> None:
    assert (
        type(
            make_scheduler(params(scheduler=name), MonitoredMetric("validation_f", "min"))
        ).__name__
        == kind
    )
