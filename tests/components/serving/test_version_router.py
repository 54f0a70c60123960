"""Versions in one replica: who answers what, and when they go."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
from fastapi import FastAPI, Request, Response

from components.core.errors import InputError
from components.serving.http.messages import ModelInfo
from components.serving.rollout.plan import RolloutPlan, ServedVersion
from components.serving.rollout.plan_files import PlanFiles
from components.serving.rollout.version_router import VersionRouter


def edition(number: int) -> ServedVersion:
    return ServedVersion(
        bundle=Path("/b"), model=ModelInfo(name="m", version=str(number), data_hash="ab")
    )


class Houses:
    """Builds apps that answer with their version, once `gate` is open."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.gate.set()

    def __call__(self, built: ServedVersion) -> FastAPI:
        if built.version == "9":
            raise InputError("is no bundle")
        app = FastAPI()

        @app.post("/v1/predict")
        async def predict(request: Request) -> Response:
            await self.gate.wait()
            status = int((await request.body()) or 200)
            return Response(built.version, status)

        @app.get("/healthz")
        async def healthz() -> Response:
            return Response(built.version)

        return app


async def settled(swap: VersionRouter, plan: RolloutPlan) -> Any:
    """Follow a plan until its loading is done."""
    swap.follow(plan)
    while swap._tasks:
        await asyncio.sleep(0.01)
    return swap.follow(plan)


def run(test: Callable[[VersionRouter, httpx.AsyncClient, Houses], Awaitable[None]]) -> None:
    """A swap of version 1, and a client of it."""

    async def whole() -> None:
        houses = Houses()
        swap = VersionRouter(edition(1), houses)
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(app=swap), base_url="http://swap"
        ) as client:
            await test(swap, client, houses)

    asyncio.run(whole())


async def versions(client: httpx.AsyncClient, count: int = 400) -> dict[str, int]:
    answers = [(await client.post("/v1/predict")).text for _ in range(count)]
    return {version: answers.count(version) for version in set(answers)}


def test_requests_are_divided_by_share_and_the_leading_version_speaks_for_the_service() -> None:
    async def test(swap: VersionRouter, client: httpx.AsyncClient, _: Houses) -> None:
        plan = RolloutPlan(stable=edition(1), canary=edition(2), number=1)
        report = await settled(swap, plan)
        assert (report.loaded, report.failed, report.plan) == (["1", "2"], {}, 1)
        assert await versions(client) == {"1": 400}
        swap.follow(plan.model_copy(update={"share": 0.25}))
        counts = await versions(client)
        assert 50 < counts["2"] < 160  # six sigma
        assert (await client.get("/healthz")).text == "1"
        swap.follow(plan.model_copy(update={"share": 1.0}))
        assert await versions(client) == {"2": 400}
        assert (await client.get("/healthz")).text == "2"

    run(test)


def test_what_they_answer_is_counted_from_the_challengers_coming() -> None:
    async def test(swap: VersionRouter, client: httpx.AsyncClient, _: Houses) -> None:
        await versions(client, 5)
        plan = RolloutPlan(stable=edition(1), canary=edition(2))
        await settled(swap, plan)
        for status in (200, 500, 503, 422, 504):
            await client.post("/v1/predict", content=str(status))
        await client.get("/healthz")
        tallies = swap.follow(plan).tallies
        assert (tallies["1"].requests, tallies["1"].errors, tallies["2"].requests) == (
            3,
            2,
            0,
        )  # neither overload nor what the client did wrong

    run(test)


def test_a_version_that_does_not_load_is_told_and_costs_nothing() -> None:
    async def test(swap: VersionRouter, client: httpx.AsyncClient, _: Houses) -> None:
        plan = RolloutPlan(stable=edition(1), canary=edition(9), share=1.0)
        assert (await settled(swap, plan)).failed == {"9": "is no bundle"}
        assert await versions(client, 20) == {"1": 20}
        assert swap.follow(RolloutPlan(stable=edition(1))).failed == {}

    run(test)


def test_a_version_stays_until_its_last_request_is_answered() -> None:
    async def test(swap: VersionRouter, client: httpx.AsyncClient, houses: Houses) -> None:
        await settled(swap, RolloutPlan(stable=edition(1), canary=edition(2), share=1.0))
        houses.gate.clear()
        slow = asyncio.create_task(client.post("/v1/predict"))
        await asyncio.sleep(0.05)
        swap.follow(RolloutPlan(stable=edition(1)))
        await asyncio.sleep(0.1)
        assert "2" in swap._tasks
        houses.gate.set()
        assert (await slow).text == "2"
        assert (await settled(swap, RolloutPlan(stable=edition(1)))).loaded == ["1"]

    run(test)


def test_a_challenger_that_nobody_watches_any_more_gets_no_requests() -> None:
    async def test(swap: VersionRouter, client: httpx.AsyncClient, _: Houses) -> None:
        plan = RolloutPlan(stable=edition(1), canary=edition(2), share=0.9)
        await settled(swap, plan)
        swap.follow(plan, unwatched_s=3600)
        assert await versions(client, 50) == {"1": 50}

    run(test)


def test_a_replica_that_starts_later_goes_from_the_old_version_to_the_new_one() -> None:
    async def test(swap: VersionRouter, client: httpx.AsyncClient, _: Houses) -> None:
        assert (await settled(swap, RolloutPlan(stable=edition(2)))).loaded == ["2"]
        assert await versions(client, 20) == {"2": 20}

    run(test)


def test_a_plan_in_a_file_has_the_keys_of_earlier_releases(tmp_path: Path) -> None:
    files = PlanFiles(tmp_path)
    files.post(RolloutPlan(stable=edition(1), canary=edition(2), share=0.5))
    written = json.loads((tmp_path / "plan.json").read_text())
    assert list(written) == ["stable", "challenger", "share", "number"]
    assert written["challenger"]["model"]["version"] == "2"


def test_plan_and_reports_pass_over_the_board(tmp_path: Path) -> None:
    service, replica = PlanFiles(tmp_path), PlanFiles(tmp_path)
    assert replica.plan() is None
    plan = RolloutPlan(stable=edition(1), canary=edition(2), share=0.5, number=3)
    service.post(plan)
    told = replica.plan()
    assert told is not None and told[0] == plan and told[1] < 60

    async def report() -> Any:
        swap = VersionRouter(edition(1), Houses(), replica, "r1")
        return await settled(swap, plan)

    made = asyncio.run(report())
    replica.report(made)
    assert service.reports() == [made]
    (tmp_path / "replica-r2.json").write_text("{")
    assert service.reports() == [made]
    service.clear()
    assert service.reports() == []
