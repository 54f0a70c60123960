"""Who may come in, and whether there is room: decided by headers alone, before a byte of a body is read."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from starlette.types import ASGIApp, Receive, Scope, Send

from components.serving.http.api_keys import Keyring
from components.serving.http.limits import gather, refuse, soon
from components.serving.http.request_metrics import Meters, inner_path, note

_PATIENCE_S = 1.0  # for the body of a request that is refused anyway
_ANYBODY = "anybody"
BUCKET = "gristmill.bucket"


class Drain:
    """Open from when the model is warm until the service ends; counts who is inside."""

    def __init__(self) -> None:
        self.ready, self.closing, self.inside = False, False, 0
        self._empty = asyncio.Event()

    async def leave(self, timeout_s: float) -> None:
        """Let nobody in any more, and wait until all are out, so many seconds at most."""
        self.ready, self.closing = False, True
        if self.inside:
            self._empty.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._empty.wait(), timeout_s)

    @contextmanager
    def passed(self) -> Iterator[None]:
        """Somebody is inside while the block runs."""
        self.inside += 1
        try:
            yield
        finally:
            self.inside -= 1
            if not self.inside:
                self._empty.set()


class Bucket:
    """A token bucket that may go into debt: what a request costs is known after it was let in.

    Args:
        rate: items a second; None: any number.
        burst: items that may come at once after a pause.
        clock: seconds.
    """

    def __init__(
        self, rate: float | None, burst: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._rate, self._burst, self._clock = rate, burst, clock
        self._level, self._at = float(burst), clock()

    def delay(self) -> float:
        """Seconds until another request may come; 0: now."""
        return 0.0 if self._rate is None else max(0.0, (1 - self._filled()) / self._rate)

    def charge(self, items: int) -> None:
        """Take what a request costs."""
        if self._rate is not None:
            self._level = self._filled() - items

    def _filled(self) -> float:
        assert self._rate is not None
        now = self._clock()
        self._level, self._at = min(self._burst, self._level + (now - self._at) * self._rate), now
        return self._level


@dataclass(frozen=True)
class Refusal:
    """Why somebody stays outside."""

    status: int
    reason: str
    detail: str
    headers: Mapping[str, str]


class Guard:
    """ASGI middleware before the paths that cost something.

    Args:
        guarded: the paths that want a key.
        keys: who has one.
        door: whether anybody is let in.
        full: whether so much waits that no more should.
        bucket: makes one for a key.
        meters: told who came and who was refused.
    """

    def __init__(
        self,
        app: ASGIApp,
        guarded: frozenset[str],
        keys: Keyring,
        door: Drain,
        full: Callable[[], bool],
        bucket: Callable[[], Bucket],
        meters: Meters,
    ) -> None:
        self.app, self.guarded, self.keys, self.door, self.full, self.bucket, self.meters = (
            app,
            guarded,
            keys,
            door,
            full,
            bucket,
            meters,
        )
        self._buckets: dict[str, Bucket] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or inner_path(scope) not in self.guarded:
            await self.app(scope, receive, send)
            return
        owner = self._owner(scope)
        refusal = self._judge(scope, owner)
        if refusal:
            note(scope, refusal.reason)
            with suppress(
                TimeoutError
            ):  # what fits into the limit is read, or a client that still sends would see a reset and not the answer
                async with asyncio.timeout(_PATIENCE_S):
                    await gather(receive, 0, 1 << 20)
            await refuse(scope, receive, send, refusal.status, refusal.detail, refusal.headers)
            return
        assert owner is not None
        scope[BUCKET] = self._bucket(owner)
        self.meters.came(owner)
        if scope["method"] != "POST":
            await self.app(scope, receive, send)
            return
        with self.door.passed():
            await self.app(scope, receive, send)

    def _owner(self, scope: Scope) -> str | None:
        if not self.keys.wanted:
            return _ANYBODY
        told = next(
            (value for name, value in scope["headers"] if name == b"authorization"), b""
        ).decode("latin-1")
        scheme, _, secret = told.partition(" ")
        return self.keys.owner(secret) if scheme.lower() == "bearer" else None

    def _judge(self, scope: Scope, owner: str | None) -> Refusal | None:
        if owner is None:
            return Refusal(
                401,
                "key",
                "An API key is needed: Authorization: Bearer ...",
                {"WWW-Authenticate": "Bearer"},
            )
        if (
            scope["method"] != "POST"
        ):  # what tells of the service costs nothing, and is wanted most when it is in trouble
            return None
        if self.door.closing:
            return Refusal(
                503,
                "draining",
                "The service ends; another one may answer",
                soon(1) | {"Connection": "close"},
            )
        if wait := self._bucket(owner).delay():
            return Refusal(429, "rate", "This key asks more than it may", soon(wait))
        if self.full():
            return Refusal(503, "overload", "More is waiting than can be answered in time", soon(1))
        return None

    def _bucket(self, owner: str) -> Bucket:
        if owner not in self._buckets:
            self._buckets[owner] = self.bucket()
        return self._buckets[owner]
