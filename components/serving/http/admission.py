"""Admission of requests: who may ask, and whether there is capacity.

Both are decided from the headers alone, before a byte of a body is read.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass

from starlette.types import ASGIApp, Receive, Scope, Send

from components.serving.http.body_limit import gather, refuse, retry_after
from components.serving.http.drain import Drain
from components.serving.http.keyring import Keyring
from components.serving.http.rate_limit import BUCKET, TokenBucket
from components.serving.http.request_metrics import Meters, inner_path, set_refusal_reason

# for the body of a request that is refused anyway
_PATIENCE_S = 1.0
_ANYBODY = "anybody"


@dataclass(frozen=True)
class Refusal:
    """The answer to a request that is not let in."""

    status: int
    reason: str
    detail: str
    headers: Mapping[str, str]


class AdmissionMiddleware:
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
        bucket: Callable[[], TokenBucket],
        meters: Meters,
    ) -> None:
        self.app = app
        self.guarded = guarded
        self.keys = keys
        self.drain = drain
        self.full = full
        self.bucket = bucket
        self.meters = meters
        self._buckets: dict[str, TokenBucket] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or inner_path(scope) not in self.guarded:
            await self.app(scope, receive, send)
            return
        owner = self._owner(scope)
        refusal = self._refusal(scope, owner)
        if refusal:
            set_refusal_reason(scope, refusal.reason)
            # a body within the limit is read: a client that still sends would see a reset, and
            # not the answer
            with suppress(TimeoutError):
                async with asyncio.timeout(_PATIENCE_S):
                    await gather(receive, 0, 1 << 20)
            await refuse(scope, receive, send, refusal.status, refusal.detail, refusal.headers)
            return
        assert owner is not None
        scope[BUCKET] = self._bucket(owner)
        self.meters.count_admitted(owner)
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
                retry_after(1) | {"Connection": "close"},
            )
        if wait := self._bucket(owner).delay():
            return Refusal(429, "rate", "This key asks more than it may", retry_after(wait))
        if self.full():
            return Refusal(
                503, "overload", "More is waiting than can be answered in time", retry_after(1)
            )
        return None

    def _bucket(self, owner: str) -> TokenBucket:
        if owner not in self._buckets:
            self._buckets[owner] = self.bucket()
        return self._buckets[owner]
