"""Around every request: an id, counts and times, and headers that protect browsers."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, generate_latest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from components.serving.http import request_ids
from components.serving.http.messages import ModelRef

ID = "gristmill.id"
_REASON = "gristmill.reason"
_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
_REASONS = {
    404: "path",
    405: "method",
    408: "slow",
    413: "size",
    422: "content",
    500: "broken",
    504: "timeout",
}
_SURENESS = {True: "sure", False: "not_sure"}
# Added where the answer has none of the name.
_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
)


class Meters:
    """Prometheus metrics of one replica, in a registry of their own.

    Args:
        model: the model that answers.
        replica: part of each series, so that those of several replicas do not mix.
        paths: the known paths. Any other is counted as "other", or a scanner could make endless
            series.
    """

    def __init__(self, model: ModelRef, replica: str, paths: Sequence[str]) -> None:
        self.replica = replica
        self._registry = CollectorRegistry()
        self._paths = frozenset(paths)
        registry: dict[str, Any] = {"registry": self._registry}
        self._requests = Counter(
            "gristmill_requests", "Requests answered", ["path", "status", "replica"], **registry
        )
        self._errors = Counter(
            "gristmill_errors",
            "Requests answered with a 4xx or 5xx status",
            ["path", "replica"],
            **registry,
        )
        self._rejected = Counter(
            "gristmill_rejected",
            "Requests that were not served, by reason",
            ["reason", "replica"],
            **registry,
        )
        self._keys = Counter(
            "gristmill_key_requests",
            "Requests let in, by the name of their key",
            ["key", "replica"],
            **registry,
        )
        self._seconds = Histogram(
            "gristmill_request_seconds",
            "Time to answer",
            ["path", "replica"],
            buckets=_SECONDS,
            **registry,
        )
        self._items = Counter(
            "gristmill_predictions", "Items predicted", ["replica"], **registry
        ).labels(replica)
        self._answers = Counter(
            "gristmill_answers",
            "Answers, by whether they are sure (serve.abstain)",
            ["sure", "replica"],
            **registry,
        )
        # Both series are there from the start, so that a share can be computed.
        self._by_sureness = {
            sure: self._answers.labels(name, replica) for sure, name in _SURENESS.items()
        }
        self._add_batch_meters(registry)
        Info("gristmill_model", "The model that answers", **registry).info(model.model_dump())

    def _add_batch_meters(self, registry: Mapping[str, Any]) -> None:
        self._batch_items = Histogram(
            "gristmill_batch_items",
            "Items scored together",
            ["replica"],
            buckets=_SIZES,
            **registry,
        ).labels(self.replica)
        self._batch_seconds = Histogram(
            "gristmill_batch_seconds",
            "Time to score a batch",
            ["replica"],
            buckets=_SECONDS,
            **registry,
        ).labels(self.replica)
        self._queue = Gauge(
            "gristmill_queue_items", "Items that wait or are being scored", ["replica"], **registry
        )
        self._inside = Gauge(
            "gristmill_requests_in_flight", "Questions being answered", ["replica"], **registry
        )

    def count(
        self,
        path: str,
        status: int,
        seconds: float,
        reason: str | None,
    ) -> None:
        """Add one answered request.

        Args:
            path: of the request.
            status: of the answer.
            seconds: that it took.
            reason: why it was refused, where the status alone does not tell.
        """
        path = path if path in self._paths else "other"
        self._requests.labels(path, str(status), self.replica).inc()
        self._seconds.labels(path, self.replica).observe(seconds)
        if status >= 400:
            self._errors.labels(path, self.replica).inc()
            self._rejected.labels(reason or _REASONS.get(status, "other"), self.replica).inc()

    def count_admitted(self, key: str) -> None:
        """Add one request that was let in."""
        self._keys.labels(key, self.replica).inc()

    def count_predictions(self, items: int, unsure: int = 0) -> None:
        """Add the items of one answered request.

        Args:
            items: all of them.
            unsure: those whose answer is marked as not sure.
        """
        self._items.inc(items)
        self._by_sureness[True].inc(items - unsure)
        self._by_sureness[False].inc(unsure)

    def answers(self) -> dict[str, int]:
        """Return the answers of this replica since its start, by whether they are sure."""
        samples = next(iter(self._answers.collect())).samples
        return {
            sample.labels["sure"]: int(sample.value)
            for sample in samples
            if sample.name.endswith("_total")
        }

    def count_batch(self, items: int, seconds: float) -> None:
        """Add one batch."""
        self._batch_items.observe(items)
        self._batch_seconds.observe(seconds)

    def set_gauges(self, queue: Callable[[], int], inside: Callable[[], int]) -> None:
        """Set the functions that each reading calls.

        Args:
            queue: returns the items that wait.
            inside: returns the requests that are being answered.
        """
        self._queue.labels(self.replica).set_function(queue)
        self._inside.labels(self.replica).set_function(inside)

    def text(self) -> bytes:
        """Return the Prometheus text format."""
        return generate_latest(self._registry)


class RequestMiddleware:
    """ASGI middleware that adds an id, metrics and security headers to each request.

    Args:
        app: what answers.
        meters: of the replica.
    """

    def __init__(self, app: ASGIApp, meters: Meters) -> None:
        self.app = app
        self.meters = meters
        self._mark = request_ids.mark(meters.replica)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began = time.perf_counter()
        status = 500
        scope[ID] = request_ids.new(self._mark)

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = list(message.get("headers", ()))
                names = {name for name, _ in headers}
                headers.append((b"x-request-id", scope[ID].encode()))
                headers += [header for header in _HEADERS if header[0] not in names]
                message = {**message, "headers": headers}
            await send(message)

        try:
            await self.app(scope, receive, send_with_headers)
        finally:
            seconds = time.perf_counter() - began
            self.meters.count(inner_path(scope), status, seconds, scope.get(_REASON))


def inner_path(scope: Scope) -> str:
    """Return the path below the prefix under which the app is mounted."""
    return str(scope["path"]).removeprefix(scope.get("root_path", ""))


def set_refusal_reason(scope: Scope, reason: str) -> None:
    """Record why a request is refused, where the status alone does not tell.

    Args:
        scope: of the request.
        reason: part of the series of refused requests.
    """
    scope[_REASON] = reason
