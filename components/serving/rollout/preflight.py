"""Preflight: a version is loaded and asked its examples, apart from all traffic.

Ray must be initialized.
"""

from __future__ import annotations

import time
from typing import Any

from components.core.errors import EnvironmentFault, GristmillError, InputError
from components.core.sandbox import MEMORY, SECONDS, limit_memory
from components.serving.rollout.agreement import tolerance
from components.serving.rollout.plan import ServedVersion

_ROUNDS = 10


def run_preflight(version: ServedVersion, latency_ms: float) -> float:
    """Load a version in a process of its own, on a node that may serve it, and ask its examples.

    Args:
        version: to be served.
        latency_ms: the limit of the 95th percentile of an answer.

    Returns:
        That percentile, in milliseconds.

    Raises:
        InputError: it cannot be loaded, gives no or unequal answers, is too slow, or takes its
            process down.
        EnvironmentFault: no process can be started.
    """
    import ray

    where = version.version
    try:
        # The process ends with the task: its memory limit is for nobody else.
        task = ray.remote(num_cpus=0, max_retries=0, max_calls=1)(_examined_within_limits)
        pending = task.remote(version)
        percentile: float = ray.get(pending, timeout=SECONDS)
    except ray.exceptions.RayTaskError as error:
        cause = error.cause
        if isinstance(cause, GristmillError):
            raise cause from None
        raise InputError(f"it fails: {type(cause).__name__}: {cause}", where=where) from None
    except ray.exceptions.WorkerCrashedError:
        raise InputError("it takes its process down", where=where) from None
    except ray.exceptions.GetTimeoutError:
        ray.cancel(pending, force=True)
        what = f"it does not load and answer within {SECONDS:.0f} s"
        raise InputError(what, where=where) from None
    except ray.exceptions.RayError as error:
        raise EnvironmentFault(
            f"cannot be tried out: {error}", where=where, remedy="gristmill doctor"
        ) from None
    if percentile > latency_ms:
        what = f"95 % of its answers take {percentile:.1f} ms, above {latency_ms:g}"
        raise InputError(what, where=where)
    return percentile


def _examined_within_limits(version: ServedVersion) -> float:
    from components.inference.predictor import allow_for

    limit_memory(MEMORY)
    allow_for(version.bundle, None)
    return examined(version)


def examined(version: ServedVersion) -> float:
    """Load a version and ask its examples one by one and together: the answers must be the same.

    Args:
        version: to be served.

    Returns:
        The 95th percentile of the time of one answer, in milliseconds.

    Raises:
        InputError: the answers differ, or the bundle is damaged.
    """
    from components.inference.predictor import load
    from components.monitoring.profile_schema import profiler_of
    from components.tasks.base import evaluator

    predictor = load(version.bundle)
    # Replicas describe what they are asked with it.
    profiler_of(predictor.card.task, predictor.card.profile)
    query_type = evaluator(predictor.card.task).Query
    queries = [query_type.model_validate(example) for example in version.model.examples]
    if not queries:
        return 0.0
    predictor.warm(queries[0])
    alone: list[Any] = []
    times: list[float] = []
    for _ in range(_ROUNDS):
        alone.clear()
        for query in queries:
            began = time.perf_counter()
            alone += predictor.predict([query])
            times.append((time.perf_counter() - began) * 1000)
    together = predictor.predict(queries)
    targets = predictor.card.targets
    distances = [
        predictor.evaluator.output_distance(one, other, targets)
        for one, other in zip(alone, together, strict=True)
    ]
    # not `any(... > ...)`: NaN must be refused too
    if not all(distance <= tolerance(predictor.card) for distance in distances):
        what = (
            "it answers the same question otherwise when others are asked with it, "
            f"by up to {max(distances):.3g}"
        )
        raise InputError(what, where=version.version)
    return sorted(times)[int(0.95 * (len(times) - 1))]
