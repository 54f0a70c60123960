"""Batches: gathered while busy, in order, and free of requests that gave up."""

from __future__ import annotations

import asyncio
import threading
import time

from hypothesis import given, settings
from hypothesis import strategies as st

from components.inference.predictor import Prepared
from components.serving.http.batch_size import BatchSizeTuner
from components.serving.http.batching import Batcher, outcomes_of, window


def double(rows):
    return [row.row * 2 for row in rows]


class Model:
    """Prepares numbers, whose cost is one; scores with a function."""

    def __init__(self, score):
        self.score = score

    def prepare(self, queries):
        return [Prepared(query, 1) for query in queries]


def batcher_of(predict, max_items, wait_s=0.0):
    return Batcher(Model(predict), max_items, None, wait_s)


def test_queries_that_arrive_while_a_batch_runs_are_scored_together():
    seen, gate = [], threading.Event()

    def predict(rows):
        seen.append([row.row for row in rows])
        gate.wait(5)
        return double(rows)

    async def scenario():
        batcher = batcher_of(predict, 3)
        first = asyncio.create_task(batcher.ask([1]))
        while not seen:
            await asyncio.sleep(0.001)
        others = [asyncio.create_task(batcher.ask([number])) for number in (2, 3, 4, 5)]
        await asyncio.sleep(0)
        gate.set()
        return await asyncio.gather(first, *others)

    assert asyncio.run(scenario()) == [[2], [4], [6], [8], [10]]
    assert seen == [[1], [2, 3, 4], [5]]


def test_a_request_that_gave_up_is_not_scored():
    seen, gate = [], threading.Event()

    def predict(rows):
        seen.append([row.row for row in rows])
        gate.wait(5)
        return double(rows)

    async def scenario():
        batcher = batcher_of(predict, 8)
        first = asyncio.create_task(batcher.ask([1]))
        while not seen:
            await asyncio.sleep(0.001)
        late = asyncio.create_task(batcher.ask([2, 3]))
        await asyncio.sleep(0)
        late.cancel()
        await asyncio.sleep(0)
        gate.set()
        return await first, await batcher.ask([4])

    assert asyncio.run(scenario()) == ([2], [8])
    assert seen == [[1], [4]]


def test_settling_finds_the_guilty_and_answers_the_rest():
    def predict(queries):
        if 5 in queries:
            raise ValueError("five")
        return [query * 2 for query in queries]

    outcomes = outcomes_of(predict, list(range(9)))
    assert isinstance(outcomes[5], ValueError)
    assert [outcome for outcome in outcomes if not isinstance(outcome, ValueError)] == [
        0,
        2,
        4,
        6,
        8,
        12,
        14,
        16,
    ]


def test_a_model_that_answers_too_few_is_an_error_and_not_a_shift():
    assert all(
        isinstance(outcome, RuntimeError)
        for outcome in outcomes_of(lambda queries: queries[1:], [1, 2])
    )


class Recording(Model):
    """Doubles numbers, whose size is their cost, and notes the batches."""

    def __init__(self):
        super().__init__(self._score)
        self.batches = []

    def prepare(self, queries):
        if 13 in queries:
            raise ValueError("thirteen")
        return [Prepared(query, query) for query in queries]

    def _score(self, rows):
        self.batches.append([row.cost for row in rows])
        return double(rows)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.lists(st.integers(1, 200), min_size=1, max_size=12), st.integers(0, 3)),
        min_size=1,
        max_size=20,
    ),
    st.integers(1, 9),
    st.integers(50, 800),
)
def test_whatever_comes_when_each_question_gets_its_own_answer(asked, most, tokens):
    model = Recording()

    async def client(batcher, queries, pauses):
        for _ in range(pauses):
            await asyncio.sleep(0)
        return await batcher.ask(queries)

    async def scenario():
        batcher = Batcher(model, most, tokens, 0.001)
        outcomes = await asyncio.gather(
            *(client(batcher, queries, pauses) for queries, pauses in asked)
        )
        assert batcher.waiting == 0
        batcher.close()
        return outcomes

    for (queries, _), outcomes in zip(asked, asyncio.run(scenario()), strict=True):
        assert [
            outcome if query != 13 else str(outcome)
            for query, outcome in zip(queries, outcomes, strict=True)
        ] == [query * 2 if query != 13 else "thirteen" for query in queries]
    for batch in model.batches:
        assert len(batch) <= most
        assert len(batch) == 1 or len(batch) * max(batch) <= tokens


@given(
    st.lists(st.integers(1, 500), min_size=1, max_size=80),
    st.data(),
    st.integers(1, 40),
    st.none() | st.integers(1, 5000),
)
def test_a_window_holds_its_row_and_little_padding(costs, data, most, tokens):
    costs.sort()
    start = data.draw(st.integers(0, len(costs) - 1))
    low, high = window(costs, start, most, tokens)
    chosen = costs[low:high]
    padded = len(chosen) * chosen[-1]
    assert low <= start < high and len(chosen) <= most
    assert len(chosen) == 1 or tokens is None or padded <= tokens
    assert padded - sum(chosen) <= max(512, padded / 4)


def test_rows_of_like_length_are_scored_together_and_the_oldest_first():
    model, entered, gate = Recording(), threading.Event(), threading.Event()
    plain = model._score

    def held(rows):
        entered.set()
        gate.wait(5)
        return plain(rows)

    model.score = held

    async def scenario():
        batcher = Batcher(model, 3, None, 0.0)
        first = asyncio.create_task(batcher.ask([1]))
        while not entered.is_set():
            await asyncio.sleep(0.001)
        late = asyncio.create_task(batcher.ask([9000, 20, 9100, 10, 9050, 30]))
        await asyncio.sleep(0)
        gate.set()
        await asyncio.gather(first, late)

    asyncio.run(scenario())
    assert [sorted(batch) for batch in model.batches] == [
        [1],
        [9000, 9050, 9100],
        [10, 20],
        [30],
    ]  # of two at once the pace knew nothing yet


def test_a_lone_client_never_waits_and_company_is_awaited_under_load(monkeypatch):
    waits = []

    async def noted(awaitable, timeout):
        waits.append(timeout)
        awaitable.close()
        raise TimeoutError

    monkeypatch.setattr(asyncio, "wait_for", noted)

    async def scenario():
        batcher = batcher_of(double, 8, wait_s=0.05)
        for number in range(5):
            await batcher.ask([number])
        alone = list(waits)
        batcher._expected, batcher._ended, batcher._latest_s = (
            4,
            time.monotonic(),
            0.02,
        )  # four were answered just now, in 20 ms
        await batcher.ask([1])
        return alone

    assert asyncio.run(scenario()) == []
    assert len(waits) == 1 and 0 < waits[0] <= 0.02


def test_a_batcher_that_is_closed_says_so():
    async def scenario():
        batcher = batcher_of(double, 8)
        batcher.close()
        return await batcher.ask([1])

    assert isinstance(asyncio.run(scenario())[0], RuntimeError)


def test_the_pace_finds_the_best_size_and_notices_when_it_changes():
    def served(pace, cost, turns):
        for _ in range(turns):
            size = pace.size()
            pace.measured(size, size * 10, size * cost(size))
        return pace.size()

    pace = BatchSizeTuner(32)
    assert pace.size() == 32
    assert served(pace, lambda size: 1 + 0.1 * size, 200) == 1  # an int8 Transformer
    assert served(pace, lambda size: 1 / size, 3000) == 32  # a machine on which batches pay
    assert served(BatchSizeTuner(24), lambda size: 1.0, 50) == 24  # no difference: the largest
    assert served(BatchSizeTuner(1), lambda size: 1.0, 5) == 1


def test_sizes_that_the_load_never_reaches_do_not_hold_the_pace_up():
    pace = BatchSizeTuner(32)
    for _ in range(100):
        assert pace.size() == 32
        pace.measured(3, 30, 0.1)
