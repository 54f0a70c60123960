"""Row-wise work as Ray tasks with a bounded number in flight; a plain loop where there is no Ray."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

T = TypeVar("T")
R = TypeVar("R")


def spread(work: Callable[[T], R], pieces: Iterable[T], in_flight: int = 8) -> Iterator[R]:
    """Yield `work(piece)` in the order of the pieces, whatever the order in which they end.

    Args:
        work: an importable function; what it takes and gives travels through the object store.
        pieces: small descriptions or tables, made when their turn comes; cut them by size, never by the number of workers, so that results do not depend on it.
        in_flight: tasks submitted ahead of the one that is waited for, which bounds memory.
    """
    import ray

    if not ray.is_initialized():
        yield from map(work, pieces)
        return
    remote: Any = ray.remote(num_cpus=1)(work)
    pending: list[Any] = []
    for piece in pieces:
        pending.append(remote.remote(piece))
        if len(pending) >= in_flight:
            yield _get(pending.pop(0))
    for reference in pending:
        yield _get(reference)


def _get(reference: Any) -> Any:
    import ray
    from ray.exceptions import RayTaskError

    try:
        return ray.get(reference)
    except RayTaskError as error:
        raise (error.cause if isinstance(error.cause, Exception) else error) from None
