"""Start workers early, so that they import while the driver imports Ray Train.

The two imports take about the same time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

# Methods that Ray Train calls on a worker.
_FORWARDED_METHODS = (
    "execute",
    "run_train_fn",
    "get_metadata",
    "mark_preempt",
    "poll_status",
    "clear_result_queue",
    "shutdown",
    "init_train_context",
)


class _ImportingWorker:
    def __init__(self) -> None:
        from ray.train.v2._internal.execution.worker_group.worker import RayTrainWorker

        import components.training.loop  # noqa: F401

        self.inner = RayTrainWorker()


def _forward(name: str) -> Callable[..., Any]:
    """Return a method that calls the inner worker's method of that name."""

    def method(self: _ImportingWorker, *args: Any, **kwargs: Any) -> Any:
        return getattr(self.inner, name)(*args, **kwargs)

    method.__name__ = name
    return method


_NAMESPACE = {name: _forward(name) for name in _FORWARDED_METHODS} | {"__module__": __name__}
Worker = type("Worker", (_ImportingWorker,), _NAMESPACE)


class NoSyncActor:
    """Placeholder for the actor through which Ray Train's workers synchronize reports.

    The workers here report nothing to Ray Train.
    """

    def __init__(self, **kwargs: Any) -> None:
        """Accept the arguments of that actor."""


class PrestartedWorkers:
    """A placement group with its workers, for the first start of a worker group.

    Args:
        workers: number of workers. The cluster must have room for them.
        resources: of each worker.
    """

    def __init__(self, workers: int, resources: dict[str, float]) -> None:
        import ray
        from ray.util.placement_group import placement_group
        from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

        self.placement = placement_group([resources] * workers)
        cpus = resources.get("CPU", 0)
        gpus = resources.get("GPU", 0)
        remote_worker: Any = ray.remote(num_cpus=cpus, num_gpus=gpus)(Worker)
        self.actors = []
        for number in range(workers):
            strategy = PlacementGroupSchedulingStrategy(self.placement, number)
            self.actors.append(remote_worker.options(scheduling_strategy=strategy).remote())
        self.used = False

    def drop(self) -> None:
        """Release the resources, if the workers were not used."""
        from ray.util.placement_group import remove_placement_group

        if not self.used:
            remove_placement_group(self.placement)
