"""Questions of several requests answered together: scoring 32 at once costs far less than 32 times one."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

Predict = Callable[[Sequence[Any]], Sequence[Any]]


class Batcher:
    """Gathers queries while a batch is being scored in a thread, and scores them next.

    Args:
        predict: queries to answers, one each; may raise.
        max_size: queries in a batch.
        wait_s: how long a batch that is not full waits for company, in seconds.
    """

    def __init__(self, predict: Predict, max_size: int, wait_s: float) -> None:
        self._predict, self._max_size, self._wait_s = predict, max_size, wait_s
        self._pending: deque[tuple[Any, asyncio.Future[Any]]] = deque()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="predict")
        self._task: asyncio.Task[None] | None = None

    async def ask(self, queries: Sequence[Any]) -> list[Any]:
        """One outcome per query, in order: an answer, or the exception that this query raised."""
        loop = asyncio.get_running_loop()
        futures = [loop.create_future() for _ in queries]
        self._pending.extend(zip(queries, futures, strict=True))
        if self._task is None or self._task.done():
            self._task = loop.create_task(self._drain())
        return await asyncio.gather(*futures)

    async def _drain(self) -> None:
        loop = asyncio.get_running_loop()
        while self._pending:
            if len(self._pending) < self._max_size:
                await asyncio.sleep(self._wait_s)
            taken = [self._pending.popleft() for _ in range(min(self._max_size, len(self._pending)))]
            batch = [(query, future) for query, future in taken if not future.done()]  # a request that timed out cancelled its own
            outcomes = await loop.run_in_executor(self._thread, settle, self._predict, [query for query, _ in batch])
            for (_, future), outcome in zip(batch, outcomes, strict=True):
                if not future.done():
                    future.set_result(outcome)

    def close(self) -> None:
        """Stop after the batch in hand."""
        self._thread.shutdown(wait=True, cancel_futures=True)


def settle(predict: Predict, queries: Sequence[Any]) -> list[Any]:
    """Answers, and for each query that cannot be answered its exception: one bad query must not fail its neighbours."""
    if not queries:
        return []
    try:
        answers = list(predict(queries))
        if len(answers) != len(queries):
            raise RuntimeError(f"{len(answers)} answers to {len(queries)} queries")
    except Exception as error:
        if len(queries) == 1:
            return [error]
        half = len(queries) // 2
        return settle(predict, queries[:half]) + settle(predict, queries[half:])
    return answers
