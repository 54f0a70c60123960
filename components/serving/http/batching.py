"""Batching: queries of several requests are scored together.

Scoring 32 queries of similar length at once costs far less than scoring one 32 times.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Protocol

from components.serving.http.batch_size import BatchSizeTuner

# padded elements that cost less than another batch
_SPARE = 512


class Priced(Protocol):
    """A prepared query."""

    @property
    def cost(self) -> int:
        """Return the elements of its row, which are padded to the longest of a batch."""


class Scores(Protocol):
    """The half of a model that needs a batch (`components.inference.predictor` has it)."""

    def prepare(self, queries: Sequence[Any]) -> Sequence[Priced]:
        """Return one row per query; may raise."""

    def score(self, rows: Sequence[Any]) -> Sequence[Any]:
        """Return one answer per row; may raise."""


@dataclass(eq=False)
class _Ask:
    """One call of `ask`: its outcomes, and the future that its caller waits for."""

    done: asyncio.Future[list[Any]]
    outcomes: list[Any]
    left: int

    def set_outcome(self, position: int, outcome: Any) -> None:
        self.outcomes[position] = outcome
        self.left -= 1
        if not self.left and not self.done.done():
            self.done.set_result(self.outcomes)


@dataclass(eq=False)
class _Item:
    """One query of a call."""

    ask: _Ask
    position: int
    query: Any
    row: Any = None
    cost: int = 0


@dataclass
class _Round:
    """The result of one turn of the thread."""

    finished: list[tuple[_Item, Any]] = field(default_factory=list)
    scored: int = 0
    seconds: float = 0.0


class Batcher:
    """Collects queries while a batch is scored in a thread.

    The next batch has queries of similar length, and always the oldest query. A batch that is not
    full waits for as many queries as the previous batch had, because clients that were just
    answered ask again. It never waits longer than scoring takes, and the first batch after a pause
    does not wait.

    Args:
        model: prepares and scores.
        max_items: queries in a batch; fewer where the model is faster with fewer (see
            `BatchSizeTuner`).
        max_tokens: elements of a batch's rows with padding. A longer row is a batch by itself.
            None: only items are counted.
        wait_s: how long a batch waits for more queries at most, in seconds.
        measured: called with the items and seconds of each batch.
    """

    def __init__(
        self,
        model: Scores,
        max_items: int,
        max_tokens: int | None,
        wait_s: float,
        measured: Callable[[int, float], None] = lambda *_: None,
    ) -> None:
        self._model = model
        self._max_items = max_items
        self._max_tokens = max_tokens
        self._wait_s = wait_s
        self._measured = measured
        self._new: list[_Item] = []
        # prepared items, oldest first; only the thread uses them while it works
        self._pool: list[_Item] = []
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="predict")
        self._task: asyncio.Task[None] | None = None
        self._arrived = asyncio.Event()
        self._expected = 1
        self._ended = 0.0
        self._latest_s = 0.0
        self._size_tuner = BatchSizeTuner(max_items)
        # items that are not answered yet
        self.waiting = 0

    async def ask(self, queries: Sequence[Any]) -> list[Any]:
        """Return one outcome per query, in order: an answer, or the exception that it raised.

        Args:
            queries: (n,) of one request.
        """
        loop = asyncio.get_running_loop()
        ask = _Ask(loop.create_future(), [None] * len(queries), len(queries))
        self._new += [_Item(ask, position, query) for position, query in enumerate(queries)]
        self.waiting += len(queries)
        self._arrived.set()
        if self._task is None or self._task.done():
            self._task = loop.create_task(self._work())
        return await ask.done

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        while self._new or self._pool:
            await self._await_more()
            new = self._new
            self._new = []
            try:
                result = await loop.run_in_executor(self._thread, self._turn, new)
            except Exception as error:
                # the thread is closed, or a mistake in this module: all callers must hear of it
                result = _Round([(item, error) for item in (*new, *self._pool)])
                self._pool = []
            self.waiting -= len(result.finished)
            for item, outcome in result.finished:
                item.ask.set_outcome(item.position, outcome)
            if result.scored:
                self._measured(result.scored, result.seconds)
                self._latest_s = result.seconds
            self._expected = min(self._max_items, result.scored + len(self._new) + len(self._pool))
            self._ended = time.monotonic()

    async def _await_more(self) -> None:
        """Wait for as many items as the previous batch had, if that has just ended."""
        until = self._ended + min(self._wait_s, self._latest_s)
        while len(self._new) + len(self._pool) < self._expected:
            left = until - time.monotonic()
            if left <= 0:
                return
            self._arrived.clear()
            try:
                await asyncio.wait_for(self._arrived.wait(), left)
            except TimeoutError:
                return

    def _turn(self, new: list[_Item]) -> _Round:
        """Prepare the new items and score one batch. Runs in the thread."""
        result = _Round()
        self._prepare([item for item in new if self._alive(item, result)], result)
        group = [item for item in self._choose(result) if self._alive(item, result)]
        began = time.perf_counter()
        outcomes = outcomes_of(self._model.score, [item.row for item in group])
        result.finished += zip(group, outcomes, strict=True)
        result.scored = len(group)
        result.seconds = time.perf_counter() - began
        if group:
            elements = sum(item.cost for item in group)
            self._size_tuner.measured(len(group), elements, result.seconds)
        return result

    @staticmethod
    def _alive(item: _Item, result: _Round) -> bool:
        """Return whether a caller still waits: a request that timed out has canceled its call."""
        if item.ask.done.done():
            result.finished.append((item, None))
            return False
        return True

    def _prepare(self, items: list[_Item], result: _Round) -> None:
        outcomes = outcomes_of(self._model.prepare, [item.query for item in items])
        for item, outcome in zip(items, outcomes, strict=True):
            if isinstance(outcome, Exception):
                result.finished.append((item, outcome))
            else:
                item.row = outcome
                item.cost = outcome.cost
                item.query = None
                self._pool.append(item)

    def _choose(self, result: _Round) -> list[_Item]:
        """Take a batch out of the pool: the oldest item, and those nearest to it in length."""
        self._pool = [item for item in self._pool if self._alive(item, result)]
        if not self._pool:
            return []
        ranked = sorted(self._pool, key=lambda item: item.cost)
        low, high = window(
            [item.cost for item in ranked],
            ranked.index(self._pool[0]),
            self._size_tuner.size(),
            self._max_tokens,
        )
        chosen = ranked[low:high]
        chosen_ids = set(map(id, chosen))
        self._pool = [item for item in self._pool if id(item) not in chosen_ids]
        return chosen

    def close(self) -> None:
        """Stop after the batch that is being scored."""
        self._thread.shutdown(wait=True, cancel_futures=True)


def window(
    costs: Sequence[int], start: int, max_items: int, max_tokens: int | None
) -> tuple[int, int]:
    """Return the batch around one row: its neighbors in length.

    At most a quarter of what is computed is padding.

    Args:
        costs: (n,) sorted.
        start: the row that must be in it.
        max_items: of the batch.
        max_tokens: of the batch with padding; None: any.

    Returns:
        First row and the one after the last.
    """
    low = start
    high = start + 1
    total = costs[start]
    while high - low < max_items and (low or high < len(costs)):
        down = costs[start] - costs[low - 1] if low else float("inf")
        up = costs[high] - costs[start] if high < len(costs) else float("inf")
        first, last = low, high
        if down <= up:
            first = low - 1
            added = total + costs[first]
        else:
            last = high + 1
            added = total + costs[last - 1]
        padded = (last - first) * costs[last - 1]
        padding = padded - added
        if (max_tokens and padded > max_tokens) or padding > max(_SPARE, padded // 4):
            break
        low, high, total = first, last, added
    return low, high


def outcomes_of(
    call: Callable[[Sequence[Any]], Sequence[Any]], queries: Sequence[Any]
) -> list[Any]:
    """Return the answers, and for each query that cannot be answered its exception.

    One bad query must not fail its neighbors.

    Args:
        call: answers a list of queries, or raises.
        queries: (n,) to answer.
    """
    if not queries:
        return []
    try:
        answers = list(call(queries))
        if len(answers) != len(queries):
            raise RuntimeError(f"{len(answers)} answers to {len(queries)} queries")
    except Exception as error:
        if len(queries) == 1:
            return [error]
        half = len(queries) // 2
        return outcomes_of(call, queries[:half]) + outcomes_of(call, queries[half:])
    return answers
