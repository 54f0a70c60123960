"""When training begins again, with how many, and when it gives up."""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from ray.train import ScalingConfig
from ray.train.v2._internal.exceptions import WorkerGroupStartupTimeoutError
from ray.train.v2._internal.execution.failure_handling import FailureDecision
from ray.train.v2._internal.execution.scaling_policy import NoopDecision
from ray.train.v2.api.exceptions import ControllerError, WorkerGroupError

from components.core.errors import EnvironmentFault, InputError
from components.training import ray_fit, ray_train
from components.training.fit_config import FitResult


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """CPUs that nobody holds, beside half a one on another node, where no worker fits."""
    room = {"CPU": 1.5}
    monkeypatch.setattr(
        ray_train, "available_resources_per_node", lambda: {"a": room, "b": {"CPU": 0.5}}
    )
    monkeypatch.setattr(ray_train, "_LOOK_S", 0.0)
    monkeypatch.setattr(ray_train, "_TELL_S", 0.0)
    return room


def policy(
    workers: int | tuple[int, int], said: list[str], wait_s: float
) -> ray_train.FreeSlotsPolicy:
    return ray_train.FreeSlotsPolicy(
        ScalingConfig(num_workers=workers, resources_per_worker={"CPU": 1}),
        None,
        wait_s,
        said.append,
    )


def test_all_are_waited_for_and_fewer_begin_only_where_they_may(free: dict[str, float]) -> None:
    said: list[str] = []
    patient = policy(2, said, 60.0)
    assert isinstance(patient.make_decision_for_non_running_worker_group(), NoopDecision)
    assert said == ["the cluster has room for 1 of 2 workers: waiting up to 60 s for more"]
    free["CPU"] = 2.0
    assert patient.make_decision_for_non_running_worker_group().num_workers == 2
    free["CPU"] = 1.0
    with pytest.raises(ray_train.NoRoom, match="room for 1 of 2 workers"):
        policy(2, said, -1.0).make_decision_for_non_running_worker_group()
    assert policy((1, 2), said, -1.0).make_decision_for_non_running_worker_group().num_workers == 1


def test_more_are_taken_when_there_is_room_again(free: dict[str, float]) -> None:
    elastic = policy((1, 3), [], 60.0)
    young, old = (
        SimpleNamespace(num_workers=1, start_time=time.monotonic() - age) for age in (1, 1000)
    )
    assert isinstance(elastic.make_decision_for_running_worker_group(young, None), NoopDecision)
    assert elastic.make_decision_for_running_worker_group(old, None).num_workers == 2
    full = SimpleNamespace(num_workers=3, start_time=0.0)
    assert isinstance(
        policy((1, 3), [], 60.0).make_decision_for_running_worker_group(full, None), NoopDecision
    )
    free["CPU"] = 0.0
    assert isinstance(
        policy((1, 3), [], 60.0).make_decision_for_running_worker_group(old, None), NoopDecision
    )


def test_losses_are_borne_as_long_as_there_are_new_checkpoints(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    restarts = ray_train.Restarts(None, ray_fit._RestartPolicy(tmp_path))
    lost = WorkerGroupError("worker 1 died", {1: RuntimeError("connection closed by peer")})
    for number in range(10):
        (tmp_path / "checkpoints" / f"step-{number}.pt").touch()
        assert restarts.make_decision(lost) == FailureDecision.RETRY
    decisions = [restarts.make_decision(lost) for _ in range(ray_fit._RESTARTS + 1)]
    assert decisions == [FailureDecision.RETRY] * ray_fit._RESTARTS + [FailureDecision.RAISE]


def test_what_a_person_must_mend_is_not_tried_again(tmp_path: Path) -> None:
    restarts = ray_train.Restarts(None, ray_fit._RestartPolicy(tmp_path))
    wrong = WorkerGroupError(
        "worker 0 failed",
        {
            0: RuntimeError("gloo: timed out"),
            1: InputError("the loss is nan", where="train.learning_rate"),
        },
    )
    assert restarts.make_decision(wrong) == FailureDecision.RAISE
    full = ControllerError(
        ray_train.NoRoom("the cluster had room for 1 of 2 workers for 600 s", where="train.workers")
    )
    assert restarts.make_decision(full) == FailureDecision.RAISE
    assert (
        restarts.make_decision(ControllerError(WorkerGroupStartupTimeoutError(2)))
        == FailureDecision.RETRY
    )
    cause = ray_fit._cause(full)
    assert isinstance(cause, EnvironmentFault)
    assert cause.where == "train.workers"


def test_the_number_of_workers_is_told() -> None:
    rows = [
        {"epoch": float(epoch), "workers": workers}
        for epoch, workers in enumerate((2.0, 2.0, 1.0, 1.0, 2.0), 1)
    ]
    assert (
        FitResult(Path(), rows, rows[0], 2, 1).workers == "2, from epoch 3 on 1, from epoch 5 on 2"
    )
