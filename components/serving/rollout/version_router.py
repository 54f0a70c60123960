"""Router of one replica: each version is a whole app, and a request is passed to one of them.

The version is chosen before a byte of the request is read.
"""

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
from components.serving.rollout.canary_check import Tally
from components.serving.rollout.plan import Report, RolloutPlan, ServedVersion
from components.serving.rollout.plan_files import PlanFiles

_PREDICT = "/v1/predict"
_LOOK_S = 0.5
_ORPHANED_S = 60.0
# no fault of a version
_OVERLOADED = 503


@dataclass
class LoadedVersion:
    """A version that is loaded and answers.

    Attributes:
        app: that answers.
        stack: holds the lifespan of the app.
        busy: requests that are being answered.
        tally: counts of its requests.
    """

    app: FastAPI
    stack: AsyncExitStack = field(default_factory=AsyncExitStack)
    busy: int = 0
    tally: Tally = field(default_factory=Tally)

    async def open(self) -> LoadedVersion:
        """Start the app."""
        await self.stack.enter_async_context(self.app.router.lifespan_context(self.app))
        return self

    async def close(self) -> None:
        """Stop the app once no request is being answered."""
        while self.busy:
            await asyncio.sleep(0.05)
        await self.stack.aclose()


class VersionRouter:
    """ASGI app that holds the versions of a plan and passes each request to one of them.

    Args:
        first: the version to begin with.
        build: loads a version and makes its app; runs in a thread, raises if the version cannot
            answer.
        plan_files: where the plan is read from; None: there is only the first version.
        name: of the replica.
    """

    def __init__(
        self,
        first: ServedVersion,
        build: Callable[[ServedVersion], FastAPI],
        plan_files: PlanFiles | None = None,
        name: str = "0",
    ) -> None:
        self._build = build
        self._plan_files = plan_files
        self._name = name
        self._plan = RolloutPlan(stable=first)
        self._loaded = {first.version: LoadedVersion(build(first))}
        # tasks that load or close a version
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._failed: dict[str, str] = {}
        self._unwatched_s = 0.0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._run_lifespan(receive, send)
            return
        counted = _is_prediction(scope)
        loaded = self._choose_version() if counted else self._loaded[self._leading()]
        began = time.perf_counter()
        status = 500

        async def send_and_note_status(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        loaded.busy += 1
        try:
            await loaded.app(scope, receive, send_and_note_status)
        except asyncio.CancelledError:
            # the client went, which says nothing of the version
            counted = False
            raise
        finally:
            loaded.busy -= 1
            if counted and _says_something(status):
                loaded.tally.count(status, time.perf_counter() - began)

    def follow(self, plan: RolloutPlan, unwatched_s: float = 0.0) -> Report:
        """Follow a plan; may be called again with the same one. Loading goes on in the background.

        Args:
            plan: the versions to hold.
            unwatched_s: the time since the service last wrote the plan, in seconds.
        """
        planned = [version for version in (plan.stable, plan.canary) if version]
        wanted = {version.version: version for version in planned}
        for number in [*self._loaded.keys() - wanted, *self._failed.keys() - wanted]:
            self._failed.pop(number, None)
            if number in self._loaded and plan.stable.version in self._loaded:
                self._retire(number)
        for number, version in wanted.items():
            if not self._is_handled(number):
                self._tasks[number] = asyncio.get_running_loop().create_task(self._load(version))
        self._plan = plan
        self._unwatched_s = unwatched_s
        return Report(
            replica=self._name,
            process=os.getpid(),
            plan=plan.number,
            loaded=sorted(self._loaded),
            failed=dict(self._failed),
            tallies={number: loaded.tally for number, loaded in self._loaded.items()},
        )

    def _is_handled(self, number: str) -> bool:
        return number in self._loaded or number in self._tasks or number in self._failed

    async def _keep_following(self, plan_files: PlanFiles) -> None:
        """Follow the plan for as long as the replica lives."""
        while True:
            # a full disk costs a report, not the service
            with suppress(OSError):
                latest = plan_files.plan()
                if latest:
                    plan_files.report(self.follow(*latest))
            await asyncio.sleep(_LOOK_S)

    async def _load(self, version: ServedVersion) -> None:
        try:
            app = await asyncio.to_thread(self._build, version)
            loaded = await LoadedVersion(app).open()
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            # a panic of a library in Rust is no Exception
            self._failed[version.version] = _describe(error)
        else:
            # from here on both are counted
            for other in self._loaded.values():
                other.tally = Tally()
            self._loaded[version.version] = loaded
        finally:
            del self._tasks[version.version]

    def _retire(self, number: str) -> None:
        loaded = self._loaded.pop(number)
        self._tasks[number] = asyncio.get_running_loop().create_task(self._close(number, loaded))

    async def _close(self, number: str, loaded: LoadedVersion) -> None:
        try:
            await loaded.close()
        finally:
            del self._tasks[number]

    def _choose_version(self) -> LoadedVersion:
        canary = self._plan.canary
        if canary is None or canary.version not in self._loaded:
            return self._loaded[self._stable()]
        if random.random() >= self._share():  # noqa: S311
            return self._loaded[self._stable()]
        return self._loaded[canary.version]

    def _share(self) -> float:
        """Return the canary's share of the requests.

        A canary that nobody watches any more gets none. One that had all of them keeps them.
        """
        watched = self._plan.share == 1 or self._unwatched_s < _ORPHANED_S
        return self._plan.share if watched else 0.0

    def _leading(self) -> str:
        version = self._plan.leading.version
        return version if version in self._loaded else self._stable()

    def _stable(self) -> str:
        version = self._plan.stable.version
        return version if version in self._loaded else next(iter(self._loaded))

    async def _run_lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        for loaded in self._loaded.values():
            await loaded.open()
        following = None
        if self._plan_files:
            loop = asyncio.get_running_loop()
            following = loop.create_task(self._keep_following(self._plan_files))
        await send({"type": "lifespan.startup.complete"})
        await receive()
        if following:
            following.cancel()
        for loaded in self._loaded.values():
            await loaded.stack.aclose()
        await send({"type": "lifespan.shutdown.complete"})


def _is_prediction(scope: Scope) -> bool:
    if scope["type"] != "http" or scope["method"] != "POST":
        return False
    return bool(scope["path"].endswith(_PREDICT))


def _says_something(status: int) -> bool:
    """Return whether a status says something of the version: a refused request does not."""
    return (status < 400 or status >= 500) and status != _OVERLOADED


def _describe(error: BaseException) -> str:
    if isinstance(error, GristmillError):
        return error.what
    return f"{type(error).__name__}: {error}"
