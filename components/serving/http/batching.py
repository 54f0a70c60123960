"""Questions of several requests answered together: scoring 32 of like length at once costs far less than 32 times one."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Protocol

from components.serving.http.batch_size import Pace

_SPARE = 512  # padded elements that cost less than a batch of their own


class Priced(Protocol):
    """A prepared query."""

    @property
    def cost(self) -> int:
        """Elements of its row, which are padded to the longest of a batch."""


class Scores(Protocol):
    """The half of a model that needs a batch (`components.inference.predictor` has it)."""

    def prepare(self, queries: Sequence[Any]) -> Sequence[Priced]:
        """One row per query; may raise."""

    def score(self, rows: Sequence[Any]) -> Sequence[Any]:
        """One answer per row; may raise."""


@dataclass(eq=False)
class _Ask:
    """One call of `ask`: its outcomes, and who waits for them."""

    done: asyncio.Future[list[Any]]
    outcomes: list[Any]
    left: int

    def settle(self, place: int, outcome: Any) -> None:
        self.outcomes[place] = outcome
        self.left -= 1
        if not self.left and not self.done.done():
            self.done.set_result(self.outcomes)


@dataclass(eq=False)
class _Item:
    """One query of a call."""

    ask: _Ask
    place: int
    query: Any
    row: Any = None
    cost: int = 0


@dataclass
class _Round:
    """What one turn of the thread brought."""

    settled: list[tuple[_Item, Any]] = field(default_factory=list)
    scored: int = 0
    seconds: float = 0.0


class Batcher:
    """Gathers queries while a batch is scored in a thread, and scores next those of like length, the oldest among them.

    A batch that is not full waits for the company that the one before had, because clients that were just answered ask
    again; never longer than scoring takes, and not at all for the first one after a pause.

    Args:
        model: prepares and scores.
        max_items: queries in a batch; fewer where the model is faster with fewer (`Pace`).
        max_tokens: elements of a batch's rows with padding; a longer row is a batch by itself. None: only items are counted.
        wait_s: how long a batch waits for company at most, in seconds.
        measured: told items and seconds of each batch.
    """

    def __init__(
        self,
        model: Scores,
        max_items: int,
        max_tokens: int | None,
        wait_s: float,
        measured: Callable[[int, float], None] = lambda *_: None,
    ) -> None:
        self._model, self._max_items, self._max_tokens, self._wait_s, self._measured = (
            model,
            max_items,
            max_tokens,
            wait_s,
            measured,
        )
        self._new: list[_Item] = []
        self._pool: list[_Item] = []  # prepared, oldest first; the thread's own while it works
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="predict")
        self._task: asyncio.Task[None] | None = None
        self._arrived = asyncio.Event()
        self._expected, self._ended, self._latest_s = 1, 0.0, 0.0
        self._pace = Pace(max_items)
        self.waiting = 0  # items that are not answered yet

    async def ask(self, queries: Sequence[Any]) -> list[Any]:
        """One outcome per query, in order: an answer, or the exception that this query raised."""
        loop = asyncio.get_running_loop()
        ask = _Ask(loop.create_future(), [None] * len(queries), len(queries))
        self._new += [_Item(ask, place, query) for place, query in enumerate(queries)]
        self.waiting += len(queries)
        self._arrived.set()
        if self._task is None or self._task.done():
            self._task = loop.create_task(self._work())
        return await ask.done

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        while self._new or self._pool:
            await self._company()
            new, self._new = self._new, []
            try:
                made = await loop.run_in_executor(self._thread, self._turn, new)
            except (
                Exception
            ) as error:  # the thread is closed, or our own mistake: whoever waits must hear of it
                made = _Round([(item, error) for item in (*new, *self._pool)])
                self._pool = []
            self.waiting -= len(made.settled)
            for item, outcome in made.settled:
                item.ask.settle(item.place, outcome)
            if made.scored:
                self._measured(made.scored, made.seconds)
                self._latest_s = made.seconds
            self._expected = min(self._max_items, made.scored + len(self._new) + len(self._pool))
            self._ended = time.monotonic()

    async def _company(self) -> None:
        """Wait for as many as there were a moment ago, if that was just now."""
        until = self._ended + min(self._wait_s, self._latest_s)
        while (
            len(self._new) + len(self._pool) < self._expected
            and (left := until - time.monotonic()) > 0
        ):
            self._arrived.clear()
            try:
                await asyncio.wait_for(self._arrived.wait(), left)
            except TimeoutError:
                return

    def _turn(self, new: list[_Item]) -> _Round:
        """In the thread: prepare what is new, score one batch."""
        made = _Round()
        self._prepare([item for item in new if self._alive(item, made)], made)
        group = [item for item in self._choose(made) if self._alive(item, made)]
        began = time.perf_counter()
        made.settled += zip(
            group, settle(self._model.score, [item.row for item in group]), strict=True
        )
        made.scored, made.seconds = len(group), time.perf_counter() - began
        if group:
            self._pace.measured(len(group), sum(item.cost for item in group), made.seconds)
        return made

    @staticmethod
    def _alive(item: _Item, made: _Round) -> bool:
        """Whether somebody still waits: a request that timed out has canceled its own."""
        if item.ask.done.done():
            made.settled.append((item, None))
            return False
        return True

    def _prepare(self, items: list[_Item], made: _Round) -> None:
        for item, outcome in zip(
            items, settle(self._model.prepare, [item.query for item in items]), strict=True
        ):
            if isinstance(outcome, Exception):
                made.settled.append((item, outcome))
            else:
                item.row, item.cost, item.query = outcome, outcome.cost, None
                self._pool.append(item)

    def _choose(self, made: _Round) -> list[_Item]:
        """Take a batch out of the pool: the oldest, and those that are nearest to it in length."""
        self._pool = [item for item in self._pool if self._alive(item, made)]
        if not self._pool:
            return []
        ranked = sorted(self._pool, key=lambda item: item.cost)
        low, high = window(
            [item.cost for item in ranked],
            ranked.index(self._pool[0]),
            self._pace.size(),
            self._max_tokens,
        )
        chosen = ranked[low:high]
        taken = set(map(id, chosen))
        self._pool = [item for item in self._pool if id(item) not in taken]
        return chosen

    def close(self) -> None:
        """Stop after the batch in hand."""
        self._thread.shutdown(wait=True, cancel_futures=True)


def window(
    costs: Sequence[int], start: int, max_items: int, max_tokens: int | None
) -> tuple[int, int]:
    """The batch around one row: its neighbors in length, as long as at most a quarter of what is computed is padding.

    Args:
        costs: (n,) sorted.
        start: the row that must be in it.
        max_items: of the batch.
        max_tokens: of the batch with padding; None: any.

    Returns:
        First row and the one after the last.
    """
    low, high, total = start, start + 1, costs[start]
    while high - low < max_items and (low or high < len(costs)):
        down = costs[start] - costs[low - 1] if low else float("inf")
        up = costs[high] - costs[start] if high < len(costs) else float("inf")
        first, last = (low - 1, high) if down <= up else (low, high + 1)
        added = total + (costs[first] if down <= up else costs[last - 1])
        padded = (last - first) * costs[last - 1]
        if (max_tokens and padded > max_tokens) or padded - added > max(_SPARE, padded // 4):
            break
        low, high, total = first, last, added
    return low, high


def settle(call: Callable[[Sequence[Any]], Sequence[Any]], queries: Sequence[Any]) -> list[Any]:
    """Answers, and for each query that cannot be answered its exception: one bad query must not fail its neighbors."""
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
        return settle(call, queries[:half]) + settle(call, queries[half:])
    return answers
