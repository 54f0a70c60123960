"""ASGI middlewares that Ray Serve puts around its HTTP servers, in proxies and replicas.

`components.orchestration.cluster.supervisor.environment` names `middlewares` to Ray Serve.
"""

from __future__ import annotations

from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_HEADER = b"x-request-id"


class SingleRequestId:
    """ASGI middleware that drops ids of clients, and all ids of an answer but the first.

    Ray Serve takes an id from the client's header, decodes it as UTF-8, logs it, and appends it to
    the answer beside the app's own. The first is the app's, where the app answers.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_single(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": _first_only(message.get("headers", []))}
            await send(message)

        others = [header for header in scope["headers"] if header[0].lower() != _HEADER]
        await self.app({**scope, "headers": others}, receive, send_single)


class HeadersWithBody:
    """ASGI middleware that holds the headers of an answer back until its body begins.

    Then it sends both at once. The app of a replica runs in another thread than its HTTP server.
    Where a replica is killed after the headers alone, HAProxy has begun to answer and cannot ask
    another replica.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        held: list[Message] = []

        async def send_together(message: Message) -> None:
            if message["type"] == "http.response.start":
                held.append(message)
                return
            # Nothing runs in between: the server writes without a pause.
            for earlier in held:
                await send(earlier)
            held.clear()
            await send(message)

        await self.app(scope, receive, send_together)


def middlewares() -> list[Middleware]:
    """Return the middlewares, the outer one first."""
    return [Middleware(HeadersWithBody), Middleware(SingleRequestId)]


def _first_only(headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    rows: list[tuple[bytes, bytes]] = []
    named = False
    for name, value in headers:
        is_id = name.lower() == _HEADER
        if not (is_id and named):
            rows.append((name, value))
        named = named or is_id
    return rows
