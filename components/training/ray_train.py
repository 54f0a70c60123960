"""Ray Train without what a fit here has no use for: its controller runs in the caller's process.

A plain `TorchTrainer.fit()` starts four more processes (controller, autoscaling coordinator, cleaner of placement groups, barrier of reports), each of which imports
Ray Train, some torch, before the workers begin to. What is overridden here is Ray's own and may change with any version: hence the narrow range of Ray in pyproject.toml.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import ray
from ray._private.state import available_resources_per_node
from ray.train.v2._internal.callbacks import AcceleratorSetupCallback, BackendSetupCallback
from ray.train.v2._internal.exceptions import WorkerGroupStartupTimeoutError
from ray.train.v2._internal.execution.controller import TrainController
from ray.train.v2._internal.execution.failure_handling import FailureDecision, FailurePolicy
from ray.train.v2._internal.execution.scaling_policy import (
    NoopDecision,
    ResizeDecision,
    ScalingDecision,
    ScalingPolicy,
)
from ray.train.v2._internal.execution.worker_group import Worker, WorkerGroup, worker_group
from ray.train.v2._internal.execution.worker_group.placement_group_handle import (
    DefaultPlacementGroupHandle,
)
from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer
from ray.train.v2.api.exceptions import ControllerError

from components.core.errors import EnvironmentFault
from components.training.prestart import Nobody, PrestartedWorkers

GoOn = Callable[[BaseException], bool]

_LOOK_S = 0.5  # between looks at the workers, and at what the cluster has
_TELL_S = 3.0  # what those who failed held becomes free in a moment
_PLACE_S = 10.0  # there was room a moment ago; if its node has gone since, look again


class Trainer(DataParallelTrainer):
    """A DataParallelTrainer with policies of its own.

    Args:
        early: workers that are there already, for the first start.
        go_on: whether to begin again after this error of workers.
        wait_s: how long to wait for room for all workers, at the start and after a loss.
        say: where it is reported that the cluster has no room.
        given: of DataParallelTrainer.
    """

    def __init__(
        self,
        *given: Any,
        early: PrestartedWorkers | None,
        go_on: GoOn,
        wait_s: float,
        say: Callable[[str], None],
        **named: Any,
    ) -> None:
        super().__init__(*given, **named)
        self._early, self._go_on, self._wait_s, self._say = early, go_on, wait_s, say

    def _create_default_callbacks(self) -> list[Any]:
        return [
            AcceleratorSetupCallback(self.backend_config, self.scaling_config),
            BackendSetupCallback(self.backend_config),
        ]

    def _initialize_and_run_controller(self, **given: Any) -> Any:
        policies = {
            "scaling_policy": Room(self.scaling_config, self._early, self._wait_s, self._say),
            "failure_policy": Restarts(self.run_config.failure_config, self._go_on),
        }
        controller = _Controller(**{**given, **policies})
        controller.worker_group_cls = type("_Group", (_Group,), {"early": self._early})
        try:
            asyncio.run(controller.run())
        finally:  # whoever interrupts the caller leaves no workers behind
            if group := controller.get_worker_group():
                group.abort()
        return controller.get_result()


worker_group.SynchronizationActor = ray.remote(num_cpus=0)(
    Nobody
)  # a process that imports Ray Train while the workers would


class _Group(WorkerGroup):
    early: PrestartedWorkers | None = None

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self._worker_group_start_timeout_s = _PLACE_S

    def _create_placement_group(self, scaling_config: Any, worker_group_context: Any) -> Any:
        if self.early and not self.early.used:
            self.early.used = True
            return DefaultPlacementGroupHandle(self.early.placement)
        return super()._create_placement_group(scaling_config, worker_group_context)

    def _create_workers(
        self,
        num_workers: int,
        placement_group: Any,
        resources_per_worker: dict[str, float],
        *given: Any,
        **named: Any,
    ) -> list[Any]:
        """Those that are there, told their ranks."""
        if self.early is None or placement_group is not self.early.placement:
            return list(
                super()._create_workers(
                    num_workers, placement_group, resources_per_worker, *given, **named
                )
            )
        facts = ray.get([actor.get_metadata.remote() for actor in self.early.actors])
        workers = [
            Worker(actor, each, resources_per_worker, placement_group_bundle_index=number)
            for number, (actor, each) in enumerate(zip(self.early.actors, facts, strict=True))
        ]
        return list(self._assign_worker_ranks(workers))

    def _init_train_context_on_workers(
        self, workers: list[Any], sync_actor: Any, train_context_args: dict[str, list[Any]]
    ) -> None:
        """As in the class above, but there is no actor that is the controller."""
        common = {
            "train_run_context": self._train_run_context,
            "synchronization_actor": sync_actor,
            "storage_context": self._storage_context,
        }
        ray.get(
            [
                worker.actor.init_train_context.remote(
                    **common,
                    distributed_context=worker.distributed_context,
                    worker_callbacks=self._worker_callbacks_to_propagate,
                    controller_actor=None,
                    **{name: values[number] for name, values in train_context_args.items()},
                )
                for number, worker in enumerate(workers)
            ]
        )


class _Controller(TrainController):
    worker_group_cls: Any = _Group

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self._health_check_interval_s = _LOOK_S

    def _make_and_handle_scaling_decision_for_non_running_worker_group(
        self, controller_state: Any
    ) -> Any:
        """What is left of a group that failed holds resources that count as room."""
        if self._worker_group:
            self._shutdown_worker_group()
        return super()._make_and_handle_scaling_decision_for_non_running_worker_group(
            controller_state
        )


class Restarts(FailurePolicy):
    """Begin again or give up, as the caller says; where a node went between the look for room and the start, look again."""

    def __init__(self, config: Any, go_on: GoOn) -> None:
        super().__init__(config)
        self._go_on = go_on

    def make_decision(self, training_failed_error: Any) -> FailureDecision:
        """See FailurePolicy."""
        inner = (
            training_failed_error.controller_failure
            if isinstance(training_failed_error, ControllerError)
            else training_failed_error
        )
        again = isinstance(inner, WorkerGroupStartupTimeoutError) or (
            not isinstance(inner, NoRoom) and self._go_on(inner)
        )
        return FailureDecision.RETRY if again else FailureDecision.RAISE


class NoRoom(EnvironmentFault):
    """The cluster had no room for the workers for too long."""


class Room(ScalingPolicy):
    """As many workers as there is room for; fewer than the most only when no more fitted within the wait.

    Ray's own elastic policy learns of a loss late and then waits 60 s for a placement that cannot come.

    Args:
        config: of Ray Train; `num_workers` is a pair when fewer than the most will do.
        early: workers who have their room already.
        wait_s: for the most.
        say: where the waiting is reported.
    """

    def __init__(
        self,
        config: Any,
        early: PrestartedWorkers | None,
        wait_s: float,
        say: Callable[[str], None],
    ) -> None:
        super().__init__(config)
        self._early, self._wait_s, self._say = early, wait_s, say
        self._began: float | None = None
        self._looked, self._told = 0.0, False
        self._least, self._most = config.min_workers, config.max_workers
        self._each = config._resources_per_worker_not_none

    def make_decision_for_non_running_worker_group(self) -> ScalingDecision:
        """Start what fits, or look again."""
        if self._early and not self._early.used:
            return ResizeDecision(self._most, self._each)
        room, now = self._free(), time.monotonic()
        if self._began is None:
            self._began, self._told = now, False
        if room < self._most and not self._told and now - self._began >= _TELL_S:
            self._say(
                f"the cluster has room for {room} of {self._most} workers: waiting up to {self._wait_s:.0f} s for more"
            )
            self._told = True
        over = now - self._began > self._wait_s
        if room >= self._most or (over and room >= self._least):
            self._began = None
            return ResizeDecision(min(room, self._most), self._each)
        if over:
            remedy = "free or add nodes, then the same command goes on from the last checkpoint; or set train.min_workers"
            raise NoRoom(
                f"the cluster had room for {room} of {self._least} workers for {self._wait_s:.0f} s",
                where="train.workers",
                remedy=remedy,
            )
        time.sleep(_LOOK_S)
        return NoopDecision()

    def make_decision_for_running_worker_group(
        self,
        worker_group_state: Any,
        worker_group_status: Any,  # noqa: ARG002
    ) -> ScalingDecision:
        """Take more where there is room by now: all begin again at the last checkpoint."""
        now, running = time.monotonic(), worker_group_state.num_workers
        if (
            running == self._most
            or now - max(self._looked, worker_group_state.start_time)
            < self.scaling_config.elastic_resize_monitor_interval_s
        ):
            return NoopDecision()
        self._looked = now
        room = min(running + self._free(), self._most)
        return ResizeDecision(room, self._each) if room > running else NoopDecision()

    def _free(self) -> int:
        """How many workers fit in what nobody holds; a worker lies on one node, so halves of a CPU on two are no room."""
        nodes = available_resources_per_node().values()
        return sum(
            int(min(free.get(name, 0) // amount for name, amount in self._each.items()))
            for free in nodes
        )

    def _get_num_workers_for_resource_request(self) -> int:
        return int(self._most)

    # Ray's policies ask a coordinator of autoscaling requests, an actor of its own.

    def after_controller_start(self, train_run_context: Any) -> None:
        """Nothing is asked for."""

    async def before_controller_shutdown(self) -> None:
        """Nothing was asked for."""

    def before_controller_abort(self) -> None:
        """Nothing was asked for."""
