"""Headers leave a replica together with the body, so that a kill in between cuts no answer."""

from __future__ import annotations

import asyncio
from typing import Any

from components.serving.replicas.ray_middlewares import HeadersWithBody

START = {"type": "http.response.start", "status": 200, "headers": []}
SCOPE = {"type": "http", "method": "GET", "path": "/", "headers": []}


async def _receive() -> dict[str, Any]:
    return {"type": "http.disconnect"}


def _sent(bodies: list[dict[str, Any]]) -> tuple[list[Any], list[Any]]:
    """Return what had left before the app made its body, and all that left."""
    sent: list[Any] = []
    early: list[Any] = []

    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        await send(START)
        await asyncio.sleep(0)
        early.extend(sent)
        for body in bodies:
            await send(body)

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(HeadersWithBody(app)(SCOPE, _receive, send))
    return early, sent


def test_no_headers_leave_before_the_body_begins() -> None:
    body = {"type": "http.response.body", "body": b"{}"}
    assert _sent([body]) == ([], [START, body])


def test_a_body_in_parts_begins_with_its_headers_and_goes_on() -> None:
    first = {"type": "http.response.body", "body": b"a", "more_body": True}
    last = {"type": "http.response.body", "body": b"b"}
    assert _sent([first, last]) == ([], [START, first, last])


def test_an_app_that_fails_before_its_body_has_sent_nothing() -> None:
    # The server can answer 500 then.
    assert _sent([]) == ([], [])
