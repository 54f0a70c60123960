"""Admission of requests: who may ask, and whether there is capacity.

Both are decided from the headers alone, before a byte of a body is read.
"""

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

# for the body of a request that is refused anyway
_PATIENCE_S = 1.0
_ANYBODY = "anybody"
BUCKET = "gristmill.bucket"


class Drain:
    """Accepts requests from when the model is warm until the service ends, and counts them."""

    def __init__(self) -> None:
        self.ready = False
        self.closing = False
        # requests that are being answered
        self.inside = 0
        self._empty = asyncio.Event()

    async def leave(self, timeout_s: float) -> None:
        """Accept no more requests, and wait until all are answered.

        Args:
            timeout_s: how long to wait at most, in seconds.
        """
        self.ready = False
        self.closing = True
        if self.inside:
            self._empty.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._empty.wait(), timeout_s)

    @contextmanager
    def passed(self) -> Iterator[None]:
        """Count a request as inside while the block runs."""
        self.inside += 1
        try:
            yield
        finally:
            self.inside -= 1
            if not self.inside:
                self._empty.set()


class Bucket:
    """A token bucket that may go into debt: the cost of a request is known after it was let in.

    Args:
        rate: items a second; None: any number.
        burst: items that may come at once after a pause.
        clock: seconds.
    """

    def __init__(
        self, rate: float | None, burst: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._rate = rate
        self._burst = burst
        self._clock = clock
        self._level = float(burst)
        self._filled_at = clock()

    def delay(self) -> float:
        """Return the seconds until another request may come; 0: now."""
        if self._rate is None:
            return 0.0
        return max(0.0, (1 - self._filled()) / self._rate)

    def charge(self, items: int) -> None:
        """Subtract the cost of a request.

        Args:
            items: of the request.
        """
        if self._rate is not None:
            self._level = self._filled() - items

    def _filled(self) -> float:
        assert self._rate is not None
        now = self._clock()
        refill = (now - self._filled_at) * self._rate
        self._level = min(self._burst, self._level + refill)
        self._filled_at = now
        return self._level


@dataclass(frozen=True)
class Refusal:
    """The answer to a request that is not let in."""

    status: int
    reason: str
    detail: str
    headers: Mapping[str, str]


class Guard:
    """ASGI middleware before the paths that cost something.

    Args:
        app: what answers.
        guarded: the paths that want a key.
        keys: the valid keys.
        drain: whether requests are accepted.
        full: returns whether so much waits that no more should.
        bucket: makes the bucket of a key.
        meters: counts who came and who was refused.
    """

    def __init__(
        self,
        app: ASGIApp,
        guarded: frozenset[str],
        keys: Keyring,
        drain: Drain,
        full: Callable[[], bool],
        bucket: Callable[[], Bucket],
        meters: Meters,
    ) -> None:
        self.app = app
        self.guarded = guarded
        self.keys = keys
        self.drain = drain
        self.full = full
        self.bucket = bucket
        self.meters = meters
        self._buckets: dict[str, Bucket] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or inner_path(scope) not in self.guarded:
            await self.app(scope, receive, send)
            return
        owner = self._owner(scope)
        refusal = self._refusal(scope, owner)
        if refusal:
            note(scope, refusal.reason)
            # a body within the limit is read: a client that still sends would see a reset, and
            # not the answer
            with suppress(TimeoutError):
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
        with self.drain.passed():
            await self.app(scope, receive, send)

    def _owner(self, scope: Scope) -> str | None:
        if not self.keys.required:
            return _ANYBODY
        values = (value for name, value in scope["headers"] if name == b"authorization")
        header = next(values, b"").decode("latin-1")
        scheme, _, secret = header.partition(" ")
        if scheme.lower() != "bearer":
            return None
        return self.keys.owner(secret)

    def _refusal(self, scope: Scope, owner: str | None) -> Refusal | None:
        if owner is None:
            return Refusal(
                401,
                "key",
                "An API key is needed: Authorization: Bearer ...",
                {"WWW-Authenticate": "Bearer"},
            )
        # paths that describe the service cost nothing, and are needed most when it is in trouble
        if scope["method"] != "POST":
            return None
        if self.drain.closing:
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
