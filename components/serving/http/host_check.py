"""Refuse requests whose Host or Origin is none of this service."""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send

from components.serving.http.body_limit import refuse
from components.serving.http.host_names import PARAM, AllowedHosts
from components.serving.http.request_metrics import set_refusal_reason


class HostCheck:
    """ASGI middleware that refuses requests for other names, and requests of other sites' pages.

    Args:
        app: what answers.
        allowed: the names for which it answers.
    """

    def __init__(self, app: ASGIApp, allowed: AllowedHosts) -> None:
        self.app = app
        self.allowed = allowed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        hosts = _values(scope, b"host")
        origins = _values(scope, b"origin")
        if len(hosts) != 1:
            set_refusal_reason(scope, "host")
            await refuse(scope, receive, send, 400, "A request has exactly one Host header")
        elif not self.allowed.accept_host(hosts[0]):
            set_refusal_reason(scope, "host")
            message = f"This service has another name than the Host header says: see {PARAM}"
            await refuse(scope, receive, send, 421, message)
        elif not all(self.allowed.accept_origin(origin, hosts[0]) for origin in origins):
            set_refusal_reason(scope, "origin")
            message = f"Pages of another origin may not ask this service: see {PARAM}"
            await refuse(scope, receive, send, 403, message)
        else:
            await self.app(scope, receive, send)


def _values(scope: Scope, name: bytes) -> list[str]:
    return [value.decode("latin-1") for header, value in scope["headers"] if header == name]
