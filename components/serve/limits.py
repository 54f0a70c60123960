"""No request takes more memory than it may."""

from __future__ import annotations

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_DRAIN_FACTOR = 64


class BodyLimit:
    """ASGI middleware: answers 413 to a body over the limit, whether its length was declared or not.

    The rest of a refused body is read and thrown away, up to a bound: a client that is still sending when the connection
    closes would see a reset instead of the answer.

    Args:
        limit: in bytes.
    """

    def __init__(self, app: ASGIApp, limit: int) -> None:
        self.app, self.limit = app, limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        kept: list[Message] = []
        size, more = 0, _declared(scope) <= self.limit * _DRAIN_FACTOR
        while more and size <= self.limit * _DRAIN_FACTOR:
            message = await receive()
            size += len(message.get("body", b""))
            more = bool(message.get("more_body"))
            if size <= self.limit:
                kept.append(message)
        if max(size, _declared(scope)) > self.limit:
            await JSONResponse({"detail": f"A request holds at most {self.limit} bytes"}, 413)(scope, receive, send)
            return
        kept.reverse()

        async def replay() -> Message:
            return kept.pop() if kept else await receive()

        await self.app(scope, replay, send)


def _declared(scope: Scope) -> int:
    lengths = [value for name, value in scope["headers"] if name == b"content-length"]
    return int(lengths[0]) if lengths and lengths[0].isdigit() else 0
