"""Workers that begin their imports before whoever drives them has imported Ray Train: the two take about as long."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

_CALLED = (
    "execute",
    "run_train_fn",
    "get_metadata",
    "mark_preempt",
    "poll_status",
    "clear_result_queue",
    "shutdown",
    "init_train_context",
)  # by Ray Train, on a worker


class _Imports:
    def __init__(self) -> None:
        from ray.train.v2._internal.execution.worker_group.worker import RayTrainWorker

        import components.training.loop  # noqa: F401

        self.inner = RayTrainWorker()


def _handed_on(name: str) -> Callable[..., Any]:
    def method(self: _Imports, *given: Any, **named: Any) -> Any:
        return getattr(self.inner, name)(*given, **named)

    method.__name__ = name
    return method


Worker = type(
    "Worker", (_Imports,), {name: _handed_on(name) for name in _CALLED} | {"__module__": __name__}
)


class Nobody:
    """In place of the actor at which Ray Train's workers would meet to report; they do not report."""

    def __init__(self, **given: Any) -> None:
        """Takes what that actor does."""


class PrestartedWorkers:
    """A placement with its workers, for the first start of a group.

    Args:
        workers: for whom there is room.
        resources: of each.
    """

    def __init__(self, workers: int, resources: dict[str, float]) -> None:
        import ray
        from ray.util.placement_group import placement_group
        from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

        self.placement = placement_group([resources] * workers)
        start: Any = ray.remote(num_cpus=resources.get("CPU", 0), num_gpus=resources.get("GPU", 0))(
            Worker
        )
        self.actors = [
            start.options(
                scheduling_strategy=PlacementGroupSchedulingStrategy(self.placement, number)
            ).remote()
            for number in range(workers)
        ]
        self.used = False

    def drop(self) -> None:
        """Give the room back, if nobody came for it."""
        from ray.util.placement_group import remove_placement_group

        if not self.used:
            remove_placement_group(self.placement)
