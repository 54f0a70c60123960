"""A follower with a service of paper: every way a release can go."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from components.core.errors import EnvironmentFault, InputError
from components.registry.versions.model_versions import Version
from components.serving.http.messages import ModelInfo
from components.serving.rollout.canary_check import CanaryParams, Tally
from components.serving.rollout.controller import Backoff, RolloutController
from components.serving.rollout.plan import Report, RolloutPlan, ServedVersion

PARAMS = CanaryParams(share=0.25, requests=100, minutes=10, watch_minutes=1)


def edition(number: int) -> ServedVersion:
    return ServedVersion(
        bundle=Path(f"/bundles/{number}"),
        model=ModelInfo(name="m", version=str(number), data_hash="ab"),
    )


def version(number: int) -> Version:
    return Version("m", number, {}, "", "", ())


class Paper:
    """One replica that follows at once; what goes wrong is set from outside."""

    def __init__(self) -> None:
        self.fault: Exception | None = None
        self.failed: dict[str, str] = {}
        self.tallies: dict[str, Tally] = {}
        self.process = 11
        self.plan: RolloutPlan | None = None
        self.kept: list[str] = []
        self.records: list[tuple[str, str]] = []

    def prepare(self, wanted: Version) -> ServedVersion:
        if self.fault:
            raise self.fault
        return edition(wanted.number)

    def publish(self, plan: RolloutPlan) -> list[Report]:
        self.plan = plan
        loaded = [
            each.version
            for each in (plan.stable, plan.canary)
            if each and each.version not in self.failed
        ]
        return [Report("r", self.process, plan.number, loaded, self.failed, self.tallies)]

    def persist(self, proven: ServedVersion) -> None:
        self.kept.append(proven.version)

    def record(self, number: str, state: str, why: str) -> None:
        self.records.append((number, state))


class World:
    """A follower of version 1, its service, its clock and what it said."""

    def __init__(self, params: CanaryParams = PARAMS, stable: int = 1) -> None:
        self.paper, self.said, self.now = Paper(), [], 0.0
        self.follower = RolloutController(
            edition(stable), self.paper, params, self.said.append, lambda: self.now
        )

    def step(
        self, champion: int | None, seconds: float = 1.0, **tallies: tuple[int, int]
    ) -> tuple[str, str | None, float]:
        """One step; `v2=(requests, errors)`. Returns stable, canary and the share as the replicas know them."""
        self.now += seconds
        self.paper.tallies = {name[1:]: Tally(*counts) for name, counts in tallies.items()}
        self.follower.step(version(champion) if champion else None)
        plan: Any = self.paper.plan
        return plan.stable.version, plan.canary and plan.canary.version, plan.share


@pytest.fixture
def world() -> World:
    return World()


def test_a_release_goes_by_a_share_then_all_then_alone(world: World) -> None:
    assert world.step(1) == ("1", None, 0)
    assert world.step(2) == ("1", "2", 0.25)
    assert world.step(2, v1=(300, 0), v2=(99, 0)) == ("1", "2", 0.25)
    assert world.step(2, v1=(303, 0), v2=(100, 0)) == ("1", "2", 1)
    assert world.follower.busy
    assert world.step(2, 59, v2=(500, 0)) == ("1", "2", 1)
    assert world.step(2, 1, v2=(501, 1)) == ("2", None, 0)
    assert (world.paper.kept, world.paper.records, world.follower.busy) == (
        ["2"],
        [("2", "serving")],
        False,
    )


def test_a_service_that_nobody_asks_moves_by_the_clock(world: World) -> None:
    world.step(2)
    assert world.step(2, 600) == ("1", "2", 1)


@pytest.mark.parametrize("seconds", [1, 700])
def test_a_worse_version_goes_back_in_the_canary_and_under_watch_and_is_not_tried_again(
    world: World, seconds: float
) -> None:
    world.step(2)
    world.step(2, seconds)
    assert world.step(2, v2=(20, 20)) == ("1", None, 0)
    assert world.step(2) == ("1", None, 0)
    assert world.paper.records == [("2", "refused")]
    assert any(
        "20 of 20 requests failed" in line and "version 1 goes on" in line for line in world.said
    )
    # until the registry has named another
    world.step(1)
    assert world.step(2) == ("1", "2", 0.25)


def test_a_refused_version_that_is_released_anew_between_two_looks_is_tried_again(
    world: World,
) -> None:
    # given a version that cannot be prepared
    world.paper.fault = InputError("was altered", where="model.onnx")
    world.follower.step(version(2), 5)
    world.paper.fault = None
    # when nothing was decided since, then it is not tried again
    world.follower.step(version(2), 5)
    assert world.paper.plan.canary is None
    # when it went back and was released again, which no look has seen, then it is
    world.follower.step(version(2), 7)
    assert world.paper.plan.canary is not None
    assert world.paper.records == [("2", "refused")]


def test_what_cannot_be_prepared_or_loaded_leaves_the_old_version(world: World) -> None:
    world.paper.fault = InputError("was altered", where="model.onnx")
    assert world.step(2) == ("1", None, 0)
    world.paper.fault, world.paper.failed = None, {"3": "no memory"}
    world.step(3)
    assert world.step(3) == ("1", None, 0)
    assert world.paper.records == [("2", "refused"), ("3", "refused")]
    assert "model.onnx: was altered" in world.said[0] and "no memory" in world.said[-1]


def test_what_is_not_there_now_is_asked_for_again_and_told_once(world: World) -> None:
    world.paper.fault = EnvironmentFault("MLflow does not answer")
    world.step(2)
    world.step(2, 2)
    assert len(world.said) == 1 and world.paper.records == [("2", "waiting")]
    world.paper.fault = None
    assert world.step(2) == ("1", None, 0), "not before the pause is over"
    assert world.step(2, 3) == ("1", "2", 0.25)


def test_pauses_double_up_to_five_minutes_and_begin_anew_with_another_version() -> None:
    waits, now = Backoff(), 0.0
    pauses = []
    for _ in range(10):
        waits.failed("2", now)
        pauses.append(waits.due - now)
        assert not waits.is_due("2", waits.due - 0.1) and waits.is_due("2", waits.due)
        assert waits.is_due("3", now)
        now = waits.due
    assert pauses == [2, 4, 8, 16, 32, 64, 128, 256, 300, 300]
    waits.failed("3", now)
    assert waits.due - now == 2


@pytest.mark.parametrize(
    "fault",
    [
        shutil.Error([("a", "b", "full")]),
        OSError(5, "I/O error"),
        RecursionError("too deep"),
        MemoryError(),
        ValueError("no JSON"),
        KeyError("files"),
        RuntimeError("of a kind that nobody thought of"),
    ],
    ids=lambda fault: type(fault).__name__,
)
def test_no_error_of_a_candidate_ends_the_service(world: World, fault: Exception) -> None:
    world.paper.fault = fault
    for _ in range(5):
        assert world.step(2) == ("1", None, 0)
    assert world.paper.records == [("2", "refused")]
    assert len(world.said) == 1 and type(fault).__name__ in world.said[0]
    world.paper.fault = None
    assert world.step(3) == ("1", "3", 0.25)


def test_while_a_candidate_is_prepared_the_replicas_are_watched(world: World) -> None:
    world.paper.prepare = lambda wanted: None  # type: ignore[method-assign]
    world.step(2)
    world.paper.process = 12
    assert world.step(2) == ("1", None, 0)
    assert world.said == ["replicas: 1 answer, process 11 ended"]


def test_a_version_that_cannot_be_kept_for_the_next_start_keeps_the_old_one_loaded(
    world: World,
) -> None:
    kept, world.paper.persist = world.paper.persist, full_disk  # type: ignore[method-assign]
    world.step(2)
    world.step(2, 600)
    for _ in range(3):
        assert world.step(2, 60) == ("1", "2", 1)
    assert sum("is not kept" in line for line in world.said) == 1
    world.paper.persist = kept  # type: ignore[method-assign]
    assert world.step(2, 1) == ("2", None, 0)


def full_disk(_: ServedVersion) -> None:
    raise EnvironmentFault("no space left", where="proven.json")


def test_a_registry_that_is_away_changes_nothing(world: World) -> None:
    assert world.step(None) == ("1", None, 0)
    world.step(2)
    assert world.step(None, v2=(100, 0)) == ("1", "2", 1)
    assert world.step(None, 60, v2=(200, 0)) == ("2", None, 0)


def test_an_alias_that_moves_on_ends_the_release_under_way(world: World) -> None:
    world.step(2)
    assert world.step(3) == ("1", "3", 0.25)
    assert world.step(1) == ("1", None, 0)
    assert world.paper.records == []


def test_a_rollback_is_for_all_requests_at_once() -> None:
    world = World(stable=5)
    assert world.step(4) == ("5", "4", 1)


def test_reports_on_an_earlier_plan_count_for_nothing(world: World) -> None:
    stale = Report("r", 11, 0, ["1", "2"], {}, {})
    world.paper.publish = lambda plan: [stale]  # type: ignore[method-assign]
    world.follower.step(version(2))
    assert world.follower.plan.share == 0


def test_replicas_that_go_are_told(world: World) -> None:
    world.step(1)
    world.paper.process = 12
    world.step(1)
    assert world.said == ["replicas: 1 answer, process 11 ended"]
