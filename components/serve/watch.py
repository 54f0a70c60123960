"""Around every request: counted, timed, and answered with headers that tell a browser to be careful."""

from __future__ import annotations

import time
from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter, Histogram, Info, generate_latest
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from components.serve.wire import ModelRef

_BUCKETS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
}


class Meters:
    """Prometheus figures of one replica, in a registry of their own.

    Args:
        model: who answers.
        replica: which replica counts; a label, so that the series of several do not mix.
        paths: the known paths; any other is counted as "other", or a scanner could make endless series.
    """

    def __init__(self, model: ModelRef, replica: str, paths: Sequence[str]) -> None:
        self._registry, self._paths, self._replica = CollectorRegistry(), frozenset(paths), replica
        self._requests = Counter("gristmill_requests", "Requests answered", ["path", "status", "replica"], registry=self._registry)
        self._errors = Counter("gristmill_errors", "Requests answered with a 4xx or 5xx status", ["path", "replica"], registry=self._registry)
        self._seconds = Histogram("gristmill_request_seconds", "Time to answer", ["path", "replica"], registry=self._registry, buckets=_BUCKETS)
        self._items = Counter("gristmill_predictions", "Items predicted", ["replica"], registry=self._registry)
        Info("gristmill_model", "The model that answers", registry=self._registry).info(model.model_dump())

    def count(self, path: str, status: int, seconds: float) -> None:
        """Add one answered request."""
        path = path if path in self._paths else "other"
        self._requests.labels(path, str(status), self._replica).inc()
        if status >= 400:
            self._errors.labels(path, self._replica).inc()
        self._seconds.labels(path, self._replica).observe(seconds)

    def predicted(self, items: int) -> None:
        """Add the items of one answered request."""
        self._items.labels(self._replica).inc(items)

    def text(self) -> bytes:
        """The Prometheus text format."""
        return generate_latest(self._registry)


class Watch:
    """ASGI middleware: meters and security headers."""

    def __init__(self, app: ASGIApp, meters: Meters) -> None:
        self.app, self.meters = app, meters

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began, status = time.perf_counter(), 500

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        path = scope["path"].removeprefix(scope.get("root_path", ""))
        try:
            await self.app(scope, receive, noted)
        finally:
            self.meters.count(path, status, time.perf_counter() - began)
