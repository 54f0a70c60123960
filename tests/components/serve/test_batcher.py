"""Batches: gathered while busy, in order, and free of requests that gave up."""

from __future__ import annotations

import asyncio
import threading

from components.engine.predict import Prepared
from components.serve.batcher import Batcher, settle


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

    outcomes = settle(predict, list(range(9)))
    assert isinstance(outcomes[5], ValueError)
    assert [outcome for outcome in outcomes if not isinstance(outcome, ValueError)] == [0, 2, 4, 6, 8, 12, 14, 16]


def test_a_model_that_answers_too_few_is_an_error_and_not_a_shift():
    assert all(isinstance(outcome, RuntimeError) for outcome in settle(lambda queries: queries[1:], [1, 2]))
