"""Run Ray Train with its controller in the caller's process.

A plain `TorchTrainer.fit()` starts four more processes: controller, autoscaling coordinator,
cleaner of placement groups, barrier of reports. Each imports Ray Train, and some import torch,
before the workers begin to. The overridden methods are internal to Ray and may change with any
version. Hence the narrow range of Ray in pyproject.toml.
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
from components.training.prestart import NoSyncActor, PrestartedWorkers

GoOn = Callable[[BaseException], bool]

# Seconds between checks of the workers and of the cluster's free resources.
_LOOK_S = 0.5
# Seconds before waiting is reported. Resources of failed workers become free in a moment.
_TELL_S = 3.0
# Seconds until the start of workers gives up. There was room a moment ago, but its node may
# have gone since.
_PLACE_S = 10.0


class Trainer(DataParallelTrainer):
    """A DataParallelTrainer with its own scaling and failure policies.

    Args:
        args: of DataParallelTrainer.
        prestarted: workers for the first start.
        go_on: called with an error of the workers. It returns whether to restart.
        wait_s: seconds to wait for room for all workers, at the start and after a loss.
        log: called with a line when the cluster has no room.
        kwargs: of DataParallelTrainer.
    """

    def __init__(
        self,
        *args: Any,
        prestarted: PrestartedWorkers | None,
        go_on: GoOn,
        wait_s: float,
        log: Callable[[str], None],
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self._prestarted = prestarted
        self._go_on = go_on
        self._wait_s = wait_s
        self._log = log

    def _create_default_callbacks(self) -> list[Any]:
        return [
            AcceleratorSetupCallback(self.backend_config, self.scaling_config),
            BackendSetupCallback(self.backend_config),
        ]

    def _initialize_and_run_controller(self, **kwargs: Any) -> Any:
        policies = {
            "scaling_policy": FreeSlotsPolicy(
                self.scaling_config, self._prestarted, self._wait_s, self._log
            ),
            "failure_policy": Restarts(self.run_config.failure_config, self._go_on),
        }
        controller = _Controller(**{**kwargs, **policies})
        controller.worker_group_cls = type("_Group", (_Group,), {"prestarted": self._prestarted})
        try:
            asyncio.run(controller.run())
        finally:
            # An interrupt of the caller must not leave workers behind.
            if group := controller.get_worker_group():
                group.abort()
        return controller.get_result()


# Ray's own actor is one more process that imports Ray Train while the workers do.
worker_group.SynchronizationActor = ray.remote(num_cpus=0)(NoSyncActor)


class _Group(WorkerGroup):
    prestarted: PrestartedWorkers | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._worker_group_start_timeout_s = _PLACE_S

    def _create_placement_group(self, scaling_config: Any, worker_group_context: Any) -> Any:
        if self.prestarted and not self.prestarted.used:
            self.prestarted.used = True
            return DefaultPlacementGroupHandle(self.prestarted.placement)
        return super()._create_placement_group(scaling_config, worker_group_context)

    def _create_workers(
        self,
        num_workers: int,
        placement_group: Any,
        resources_per_worker: dict[str, float],
        *args: Any,
        **kwargs: Any,
    ) -> list[Any]:
        """Return the prestarted workers with their ranks, or new ones."""
        if self.prestarted is None or placement_group is not self.prestarted.placement:
            created = super()._create_workers(
                num_workers, placement_group, resources_per_worker, *args, **kwargs
            )
            return list(created)
        actors = self.prestarted.actors
        metadata = ray.get([actor.get_metadata.remote() for actor in actors])
        workers = []
        for number, (actor, actor_metadata) in enumerate(zip(actors, metadata, strict=True)):
            worker = Worker(
                actor, actor_metadata, resources_per_worker, placement_group_bundle_index=number
            )
            workers.append(worker)
        return list(self._assign_worker_ranks(workers))

    def _init_train_context_on_workers(
        self, workers: list[Any], sync_actor: Any, train_context_args: dict[str, list[Any]]
    ) -> None:
        """Do as the overridden method does, but without an actor as the controller."""
        common = {
            "train_run_context": self._train_run_context,
            "synchronization_actor": sync_actor,
            "storage_context": self._storage_context,
        }
        calls = []
        for number, worker in enumerate(workers):
            worker_args = {name: values[number] for name, values in train_context_args.items()}
            call = worker.actor.init_train_context.remote(
                **common,
                distributed_context=worker.distributed_context,
                worker_callbacks=self._worker_callbacks_to_propagate,
                controller_actor=None,
                **worker_args,
            )
            calls.append(call)
        ray.get(calls)


class _Controller(TrainController):
    worker_group_cls: Any = _Group

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._health_check_interval_s = _LOOK_S

    def _make_and_handle_scaling_decision_for_non_running_worker_group(
        self, controller_state: Any
    ) -> Any:
        """Shut down a failed group first, because its resources count as room."""
        if self._worker_group:
            self._shutdown_worker_group()
        return super()._make_and_handle_scaling_decision_for_non_running_worker_group(
            controller_state
        )


class Restarts(FailurePolicy):
    """Restarts or gives up, as the caller decides.

    Where a node went between the check for room and the start, it checks again.
    """

    def __init__(self, config: Any, go_on: GoOn) -> None:
        super().__init__(config)
        self._go_on = go_on

    def make_decision(self, training_failed_error: Any) -> FailureDecision:
        """See FailurePolicy."""
        error = training_failed_error
        if isinstance(error, ControllerError):
            error = error.controller_failure
        if isinstance(error, WorkerGroupStartupTimeoutError):
            return FailureDecision.RETRY
        if isinstance(error, NoRoom) or not self._go_on(error):
            return FailureDecision.RAISE
        return FailureDecision.RETRY


class NoRoom(EnvironmentFault):
    """Raised when the cluster had no room for the workers for too long."""


class FreeSlotsPolicy(ScalingPolicy):
    """Scaling policy: as many workers as the cluster has room for.

    Fewer than the most start only when no more fitted within the wait. Ray's own elastic
    policy notices a loss late, and then waits 60 s for a placement that cannot come.

    Args:
        config: of Ray Train. `num_workers` is a pair when fewer than the most are enough.
        prestarted: workers that hold their resources already.
        wait_s: seconds to wait for the most.
        log: called with a line when the policy waits.
    """

    def __init__(
        self,
        config: Any,
        prestarted: PrestartedWorkers | None,
        wait_s: float,
        log: Callable[[str], None],
    ) -> None:
        super().__init__(config)
        self._prestarted = prestarted
        self._wait_s = wait_s
        self._log = log
        self._wait_start: float | None = None
        self._last_check = 0.0
        self._logged = False
        self._least = config.min_workers
        self._most = config.max_workers
        self._resources = config._resources_per_worker_not_none

    def make_decision_for_non_running_worker_group(self) -> ScalingDecision:
        """Start as many workers as fit, or wait.

        Raises:
            NoRoom: the wait is over, and not even the least number of workers fits.
        """
        if self._prestarted and not self._prestarted.used:
            return ResizeDecision(self._most, self._resources)
        room = self._free_slots()
        now = time.monotonic()
        if self._wait_start is None:
            self._wait_start = now
            self._logged = False
        waited = now - self._wait_start
        if room < self._most and not self._logged and waited >= _TELL_S:
            self._log(
                f"the cluster has room for {room} of {self._most} workers: "
                f"waiting up to {self._wait_s:.0f} s for more"
            )
            self._logged = True
        is_over = waited > self._wait_s
        if room >= self._most or (is_over and room >= self._least):
            self._wait_start = None
            return ResizeDecision(min(room, self._most), self._resources)
        if is_over:
            remedy = (
                "free or add nodes, then the same command goes on from the last checkpoint; "
                "or set train.min_workers"
            )
            raise NoRoom(
                f"the cluster had room for {room} of {self._least} workers "
                f"for {self._wait_s:.0f} s",
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
        """Add workers where there is room by now. All restart at the last checkpoint."""
        now = time.monotonic()
        running = worker_group_state.num_workers
        if running == self._most:
            return NoopDecision()
        since_check = now - max(self._last_check, worker_group_state.start_time)
        if since_check < self.scaling_config.elastic_resize_monitor_interval_s:
            return NoopDecision()
        self._last_check = now
        room = min(running + self._free_slots(), self._most)
        if room > running:
            return ResizeDecision(room, self._resources)
        return NoopDecision()

    def _free_slots(self) -> int:
        """Return how many workers fit in the cluster's free resources.

        A worker needs its resources on one node.
        """
        slots = 0
        for free in available_resources_per_node().values():
            slots += int(
                min(free.get(name, 0) // amount for name, amount in self._resources.items())
            )
        return slots

    def _get_num_workers_for_resource_request(self) -> int:
        return int(self._most)

    # Ray's own policies send autoscaling requests to a coordinator, which is one more actor.

    def after_controller_start(self, train_run_context: Any) -> None:
        """Do nothing: no resources are requested."""

    async def before_controller_shutdown(self) -> None:
        """Do nothing: no resources were requested."""

    def before_controller_abort(self) -> None:
        """Do nothing: no resources were requested."""
