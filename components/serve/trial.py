"""A version tried out apart from all traffic. Ray must be initialised."""

from __future__ import annotations

import time
from typing import Any

from components.core.errors import EnvironmentFault, GristmillError, InputError
from components.serve.plan import Edition

_TRIAL_S = 120.0
_ROUNDS = 10
_TOLERANCE = 1e-4  # of a number in an answer: alone, or in company


def try_out(edition: Edition, latency_ms: float) -> float:
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
        pending = ray.remote(num_cpus=0, max_retries=0)(examined).remote(edition)
        taken: float = ray.get(pending, timeout=_TRIAL_S)
    except ray.exceptions.RayTaskError as error:
        cause = error.cause
        raise cause if isinstance(cause, GristmillError) else InputError(f"it fails: {type(cause).__name__}: {cause}", where=edition.version) from None
    except ray.exceptions.WorkerCrashedError:
        raise InputError("it takes its process down", where=edition.version) from None
    except ray.exceptions.GetTimeoutError:
        ray.cancel(pending, force=True)
        raise InputError(f"it does not load and answer within {_TRIAL_S:.0f} s", where=edition.version) from None
    except ray.exceptions.RayError as error:
        raise EnvironmentFault(f"cannot be tried out: {error}", where=edition.version, remedy="gristmill doctor") from None
    if taken > latency_ms:
        raise InputError(f"95 % of its answers take {taken:.1f} ms, above {latency_ms:g}", where=edition.version)
    return taken


def examined(edition: Edition) -> float:
    """Load a version and ask its examples one by one and together: the answers must be the same. Returns the 95th percentile of the time of one, in milliseconds.

    Raises:
        InputError: they are not, or the bundle is not whole.
    """
    from components.engine.predict import load
    from components.tasks.base import judge

    predictor = load(edition.bundle)
    queries = [judge(predictor.card.task).Query.model_validate(example) for example in edition.model.examples]
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
    if len(alone) != len(together) or not all(_alike(a.model_dump(), b.model_dump()) for a, b in zip(alone, together, strict=True)):
        raise InputError("it answers the same question otherwise when others are asked with it", where=edition.version)
    return sorted(times)[int(0.95 * (len(times) - 1))]


def _alike(one: Any, other: Any) -> bool:
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_alike(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(_alike, one, other))
    if isinstance(one, float):
        return bool(abs(one - other) <= _TOLERANCE)  # false for NaN
    return bool(one == other)
