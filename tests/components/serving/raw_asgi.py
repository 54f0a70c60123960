"""One request to an ASGI app with exactly the headers of a test; HTTP clients would mend them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

Headers = list[tuple[bytes, bytes]]


@dataclass(frozen=True)
class RawAnswer:
    """What the app sent."""

    status: int
    headers: Headers
    body: bytes

    def values(self, name: bytes) -> list[bytes]:
        """The values of one header."""
        return [value for header, value in self.headers if header.lower() == name]


def send_raw(
    app: Any, method: str, path: str, headers: Headers, chunks: Iterable[bytes] = (b"",)
) -> RawAnswer:
    """Send a request without its lifespan, in an event loop of its own."""
    return asyncio.run(exchange(app, method, path, headers, chunks))


async def exchange(
    app: Any, method: str, path: str, headers: Headers, chunks: Iterable[bytes] = (b"",)
) -> RawAnswer:
    """Send a request. A body that ends is followed by silence, as of a client that waits."""
    bodies = list(chunks)
    waiting = [
        {"type": "http.request", "body": body, "more_body": number < len(bodies)}
        for number, body in enumerate(bodies, 1)
    ]
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        if waiting:
            return waiting.pop(0)
        await asyncio.sleep(3600)
        return {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode("utf-8", "replace"),
        "root_path": "",
        "query_string": b"",
        "headers": headers,
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 8000),
    }
    await app(scope, receive, send)
    start = next(message for message in sent if message["type"] == "http.response.start")
    body = b"".join(message.get("body", b"") for message in sent[1:])
    return RawAnswer(start["status"], list(start.get("headers", [])), body)
