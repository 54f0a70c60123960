"""One replica's versions: each a whole app of its own, one of which is chosen for a request before a byte of it is read."""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field

from fastapi import FastAPI
from starlette.types import Message, Receive, Scope, Send

from components.core.errors import GristmillError
from components.serving.rollout.canary import Tally
from components.serving.rollout.plan import Report, RolloutPlan, ServedVersion
from components.serving.rollout.plan_files import PlanFiles

_PREDICT = "/v1/predict"
_LOOK_S = 0.5
_ORPHANED_S = 60.0
_OVERLOADED = 503  # no fault of a version


@dataclass
class LoadedVersion:
    """A version that answers."""

    app: FastAPI
    stack: AsyncExitStack = field(default_factory=AsyncExitStack)  # holds its lifespan
    busy: int = 0
    tally: Tally = field(default_factory=Tally)

    async def open(self) -> LoadedVersion:
        await self.stack.enter_async_context(self.app.router.lifespan_context(self.app))
        return self

    async def close(self) -> None:
        while self.busy:
            await asyncio.sleep(0.05)
        await self.stack.aclose()


class VersionRouter:
    """ASGI app that holds the versions of a plan and passes each request to one of them.

    Args:
        first: what to begin with.
        build: loads a version and makes its app; runs in a thread, raises if the version cannot answer.
        board: where the plan is told; None: what it began with is all.
        name: of the replica.
    """

    def __init__(
        self,
        first: ServedVersion,
        build: Callable[[ServedVersion], FastAPI],
        board: PlanFiles | None = None,
        name: str = "0",
    ) -> None:
        self._build, self._board, self._name = build, board, name
        self._plan = RolloutPlan(stable=first)
        self._halls = {first.version: LoadedVersion(build(first))}
        self._loading: dict[str, asyncio.Task[None]] = {}
        self._failed: dict[str, str] = {}
        self._unwatched_s = 0.0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        asked = (
            scope["type"] == "http"
            and scope["method"] == "POST"
            and scope["path"].endswith(_PREDICT)
        )
        hall = self._chosen() if asked else self._halls[self._leading()]
        began, status = time.perf_counter(), 500

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        hall.busy += 1
        try:
            await hall.app(scope, receive, noted)
        except asyncio.CancelledError:  # the client went, which says nothing of the version
            asked = False
            raise
        finally:
            hall.busy -= 1
            if asked and (status < 400 or status >= 500) and status != _OVERLOADED:
                hall.tally.count(status, time.perf_counter() - began)

    def follow(self, plan: RolloutPlan, unwatched_s: float = 0.0) -> Report:
        """Take a plan up, as often as it is told; loading goes on in the background.

        Args:
            plan: what to hold.
            unwatched_s: how long ago whoever watches over it was last there, in seconds.
        """
        wanted = {edition.version: edition for edition in (plan.stable, plan.challenger) if edition}
        for version in [*self._halls.keys() - wanted, *self._failed.keys() - wanted]:
            self._failed.pop(version, None)
            if version in self._halls and plan.stable.version in self._halls:
                self._retire(version)
        for version, edition in wanted.items():
            if (
                version not in self._halls
                and version not in self._loading
                and version not in self._failed
            ):
                self._loading[version] = asyncio.get_running_loop().create_task(self._load(edition))
        self._plan, self._unwatched_s = plan, unwatched_s
        return Report(
            self._name,
            os.getpid(),
            plan.number,
            sorted(self._halls),
            dict(self._failed),
            {version: hall.tally for version, hall in self._halls.items()},
        )

    async def _look(self, board: PlanFiles) -> None:
        """Follow what the board says for as long as the replica lives."""
        while True:
            with suppress(OSError):  # a full disk costs a report, not the service
                told = board.plan()
                if told:
                    board.report(self.follow(*told))
            await asyncio.sleep(_LOOK_S)

    async def _load(self, edition: ServedVersion) -> None:
        try:
            hall = await LoadedVersion(await asyncio.to_thread(self._build, edition)).open()
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # a panic of a library in Rust is no Exception
            self._failed[edition.version] = (
                error.what
                if isinstance(error, GristmillError)
                else f"{type(error).__name__}: {error}"
            )
        else:
            for other in self._halls.values():
                other.tally = Tally()  # from here on both are counted
            self._halls[edition.version] = hall
        finally:
            del self._loading[edition.version]

    def _retire(self, version: str) -> None:
        hall = self._halls.pop(version)
        self._loading[version] = asyncio.get_running_loop().create_task(self._close(version, hall))

    async def _close(self, version: str, hall: LoadedVersion) -> None:
        try:
            await hall.close()
        finally:
            del self._loading[version]

    def _chosen(self) -> LoadedVersion:
        challenger = self._plan.challenger
        if (
            challenger is None
            or challenger.version not in self._halls
            or random.random() >= self._share()  # noqa: S311
        ):
            return self._halls[self._stable()]
        return self._halls[challenger.version]

    def _share(self) -> float:
        """None of the requests are for a challenger that nobody watches any more; one that had all of them keeps them."""
        watched = self._plan.share == 1 or self._unwatched_s < _ORPHANED_S
        return self._plan.share if watched else 0.0

    def _leading(self) -> str:
        version = self._plan.leading.version
        return version if version in self._halls else self._stable()

    def _stable(self) -> str:
        version = self._plan.stable.version
        return version if version in self._halls else next(iter(self._halls))

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        for hall in self._halls.values():
            await hall.open()
        looking = (
            asyncio.get_running_loop().create_task(self._look(self._board)) if self._board else None
        )
        await send({"type": "lifespan.startup.complete"})
        await receive()
        if looking:
            looking.cancel()
        for hall in self._halls.values():
            await hall.stack.aclose()
        await send({"type": "lifespan.shutdown.complete"})
