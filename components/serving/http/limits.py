"""No body takes more memory or more time than it may."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_DRAIN_FACTOR = 64


class BodyLimit:
    """ASGI middleware: 413 to a body over the limit, whether its length was declared or not, and 408 to one that does not arrive.

    The rest of a refused body is read and thrown away, up to a bound: a client that is still sending when the connection
    closes would see a reset instead of the answer.

    Args:
        limit: in bytes.
        timeout_s: for the whole body, in seconds; a client that sends a byte now and then holds nothing for longer.
    """

    def __init__(self, app: ASGIApp, limit: int, timeout_s: float) -> None:
        self.app, self.limit, self.timeout_s = app, limit, timeout_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        try:
            async with asyncio.timeout(self.timeout_s):
                kept = await self._read(scope, receive)
        except TimeoutError:
            await refuse(
                scope,
                receive,
                send,
                408,
                f"The body did not arrive within {self.timeout_s:g} s",
                {"Connection": "close"},
            )
            return
        if kept is None:
            await refuse(scope, receive, send, 413, f"A request holds at most {self.limit} bytes")
            return

        async def replay() -> Message:
            return kept.pop() if kept else await receive()

        await self.app(scope, replay, send)

    async def _read(self, scope: Scope, receive: Receive) -> list[Message] | None:
        """The messages of the body, last first; None if they are too many bytes."""
        declared = [value for name, value in scope["headers"] if name == b"content-length"]
        large = bool(declared) and declared[0].isdigit() and int(declared[0]) > self.limit
        kept, size = await gather(
            receive,
            self.limit,
            self.limit * _DRAIN_FACTOR
            if not large or int(declared[0]) <= self.limit * _DRAIN_FACTOR
            else 0,
        )
        return None if large or size > self.limit else kept[::-1]


async def gather(receive: Receive, keep: int, read: int) -> tuple[list[Message], int]:
    """Read a body.

    Args:
        receive: of ASGI.
        keep: bytes after which messages are thrown away.
        read: bytes after which reading ends; 0: nothing is read.

    Returns:
        The messages that were kept, and how many bytes were read.
    """
    kept: list[Message] = []
    size, more = 0, read > 0
    while more and size <= read:
        message = await receive()
        size += len(message.get("body", b""))
        more = bool(message.get("more_body"))
        if size <= keep:
            kept.append(message)
    return kept, size


async def refuse(
    scope: Scope,
    receive: Receive,
    send: Send,
    status: int,
    detail: str,
    headers: Mapping[str, str] | None = None,
) -> None:
    """Answer with a problem, in the one form that all of them have."""
    await JSONResponse({"detail": detail}, status, headers=dict(headers or {}))(
        scope, receive, send
    )


def soon(seconds: float) -> dict[str, str]:
    """The header that says when to try again: whole seconds, at least one."""
    return {"Retry-After": str(max(1, math.ceil(seconds)))}
