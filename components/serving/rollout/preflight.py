"""A version tried out apart from all traffic. Ray must be initialized."""

from __future__ import annotations

import time
from typing import Any

from components.core.errors import EnvironmentFault, GristmillError, InputError
from components.core.sandbox import MEMORY, SECONDS, limit_memory
from components.serving.rollout.agreement import tolerance
from components.serving.rollout.plan import ServedVersion

_ROUNDS = 10


def run_preflight(edition: ServedVersion, latency_ms: float) -> float:
    """Load a version in a process of its own, on a node that may serve it, and ask it its examples.

    Args:
        edition: which.
        latency_ms: what the 95th percentile of an answer may be.

    Returns:
        That percentile, in milliseconds.

    Raises:
        InputError: it cannot be loaded, gives no or unequal answers, is too slow, or takes its process down.
        EnvironmentFault: no process can be had.
    """
    import ray

    try:
        # The process ends with the task: its memory limit is for nobody else.
        task = ray.remote(num_cpus=0, max_retries=0, max_calls=1)(_examined_within_limits)
        pending = task.remote(edition)
        taken: float = ray.get(pending, timeout=SECONDS)
    except ray.exceptions.RayTaskError as error:
        cause = error.cause
        raise (
            cause
            if isinstance(cause, GristmillError)
            else InputError(f"it fails: {type(cause).__name__}: {cause}", where=edition.version)
        ) from None
    except ray.exceptions.WorkerCrashedError:
        raise InputError("it takes its process down", where=edition.version) from None
    except ray.exceptions.GetTimeoutError:
        ray.cancel(pending, force=True)
        raise InputError(
            f"it does not load and answer within {SECONDS:.0f} s", where=edition.version
        ) from None
    except ray.exceptions.RayError as error:
        raise EnvironmentFault(
            f"cannot be tried out: {error}", where=edition.version, remedy="gristmill doctor"
        ) from None
    if taken > latency_ms:
        raise InputError(
            f"95 % of its answers take {taken:.1f} ms, above {latency_ms:g}", where=edition.version
        )
    return taken


def _examined_within_limits(edition: ServedVersion) -> float:
    from components.inference.predictor import allow_for

    limit_memory(MEMORY)
    allow_for(edition.bundle, None)
    return examined(edition)


def examined(edition: ServedVersion) -> float:
    """Load a version and ask its examples one by one and together: the answers must be the same. Returns the 95th percentile of the time of one, in milliseconds.

    Raises:
        InputError: they are not, or the bundle is not whole.
    """
    from components.inference.predictor import load
    from components.monitoring.profile_schema import profiler_of
    from components.tasks.base import evaluator

    predictor = load(edition.bundle)
    # Replicas describe what they are asked with it.
    profiler_of(predictor.card.task, predictor.card.profile)
    queries = [
        evaluator(predictor.card.task).Query.model_validate(example)
        for example in edition.model.examples
    ]
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
    gaps = [
        predictor.evaluator.output_distance(one, other)
        for one, other in zip(alone, together, strict=True)
    ]
    if not all(gap <= tolerance(predictor.card) for gap in gaps):  # NaN is not
        raise InputError(
            f"it answers the same question otherwise when others are asked with it, by up to {max(gaps):.3g}",
            where=edition.version,
        )
    return sorted(times)[int(0.95 * (len(times) - 1))]
