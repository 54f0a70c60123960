"""Map a function over pieces of work as Ray tasks, with a bounded number in flight.

Without Ray, or with a single piece, it is a plain loop.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice
from typing import Any, TypeVar

T = TypeVar("T")
R = TypeVar("R")


def parallel_map(
    work: Callable[[T], R], pieces: Iterable[T], in_flight: int = 8, cpus: float = 1
) -> Iterator[R]:
    """Yield `work(piece)` in the order of the pieces.

    Args:
        work: an importable function. Its arguments and results go through the object store.
        pieces: small descriptions or tables, created lazily. Divide them by size, never by the
            number of workers, so that results do not depend on it.
        in_flight: tasks that are submitted ahead. It bounds memory.
        cpus: that a task holds. 0: it waits for tasks of its own, which hold them.
    """
    pieces = iter(pieces)
    first = list(islice(pieces, 2))
    pieces = chain(first, pieces)
    # A task for a single piece would only add the start of a process, which takes seconds.
    if len(first) < 2 or not has_ray():
        yield from map(work, pieces)
        return
    import ray

    remote: Any = ray.remote(num_cpus=cpus)(work)
    pending: list[Any] = []
    for piece in pieces:
        pending.append(remote.remote(piece))
        if len(pending) >= in_flight:
            yield _get(pending.pop(0))
    for reference in pending:
        yield _get(reference)


def has_ray() -> bool:
    """Return whether this process is connected to Ray, without the second that its import takes."""
    ray = sys.modules.get("ray")
    return ray is not None and bool(ray.is_initialized())


def _get(reference: Any) -> Any:
    import ray
    from ray.exceptions import RayTaskError

    try:
        return ray.get(reference)
    except RayTaskError as error:
        if isinstance(error.cause, Exception):
            raise error.cause from None
        raise error from None
