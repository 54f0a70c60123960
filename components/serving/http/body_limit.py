"""Limits on the memory and the time that a body may take."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_DRAIN_FACTOR = 64


class BodyLimit:
    """ASGI middleware that limits the size of a body and the time to receive it.

    A body over the limit is answered with 413, whether its length was declared or not. A body that
    does not arrive is answered with 408. The rest of a refused body is read and thrown away, up to
    a
    bound: a client that still sends when the connection closes would see a reset, and not the
        answer.

    Args:
        app: what answers.
        limit: in bytes.
        timeout_s: for the whole body, in seconds; a client that sends a byte now and then holds
            nothing for longer.
    """

    def __init__(self, app: ASGIApp, limit: int, timeout_s: float) -> None:
        self.app = app
        self.limit = limit
        self.timeout_s = timeout_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        try:
            async with asyncio.timeout(self.timeout_s):
                messages = await self._read(scope, receive)
        except TimeoutError:
            detail = f"The body did not arrive within {self.timeout_s:g} s"
            await refuse(scope, receive, send, 408, detail, {"Connection": "close"})
            return
        if messages is None:
            await refuse(scope, receive, send, 413, f"A request holds at most {self.limit} bytes")
            return

        async def replay() -> Message:
            return messages.pop() if messages else await receive()

        await self.app(scope, replay, send)

    async def _read(self, scope: Scope, receive: Receive) -> list[Message] | None:
        """Return the messages of the body, last first; None if they are too many bytes."""
        declared = [value for name, value in scope["headers"] if name == b"content-length"]
        size_known = bool(declared) and declared[0].isdigit()
        too_large = size_known and int(declared[0]) > self.limit
        bound = self.limit * _DRAIN_FACTOR
        if too_large and int(declared[0]) > bound:
            bound = 0
        messages, size = await gather(receive, self.limit, bound)
        if too_large or size > self.limit:
            return None
        return messages[::-1]


async def gather(receive: Receive, keep: int, read: int) -> tuple[list[Message], int]:
    """Read a body.

    Args:
        receive: of ASGI.
        keep: bytes after which messages are thrown away.
        read: bytes after which reading ends; 0: nothing is read.

    Returns:
        The messages up to `keep`, and how many bytes were read.
    """
    messages: list[Message] = []
    size = 0
    more = read > 0
    while more and size <= read:
        message = await receive()
        size += len(message.get("body", b""))
        more = bool(message.get("more_body"))
        if size <= keep:
            messages.append(message)
    return messages, size


async def refuse(
    scope: Scope,
    receive: Receive,
    send: Send,
    status: int,
    detail: str,
    headers: Mapping[str, str] | None = None,
) -> None:
    """Answer with a problem, in the form that all problems have.

    Args:
        scope: of ASGI.
        receive: of ASGI.
        send: of ASGI.
        status: of HTTP.
        detail: what is wrong.
        headers: to add.
    """
    response = JSONResponse({"detail": detail}, status, headers=dict(headers or {}))
    await response(scope, receive, send)


def retry_after(seconds: float) -> dict[str, str]:
    """Return the header that says when to try again: whole seconds, at least one."""
    return {"Retry-After": str(max(1, math.ceil(seconds)))}
