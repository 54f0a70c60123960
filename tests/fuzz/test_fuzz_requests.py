"""Whatever arrives at the service, it answers in its own words: no exception and no 500."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi import FastAPI
from hypothesis import given
from hypothesis import strategies as st
from raw_asgi import RawAnswer, exchange
from strategies import TEXTS, changed_json
from stub import MODEL, Stub

from components.serving.http.app import build_app
from components.serving.params import ServeParams

PATHS = (
    "/",
    "/docs",
    "/healthz",
    "/readyz",
    "/openapi.json",
    "/metrics",
    "/v1/model",
    "/v1/predict",
    "/v1/explain",
)
STATUSES = {200, 400, 403, 404, 405, 408, 413, 421, 422, 429}
METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PROPFIND", "")
HOSTS = (b"localhost", b"127.0.0.1:8000", b"evil.example", b"")
HEADERS = (
    b"host",
    b"origin",
    b"content-type",
    b"content-length",
    b"authorization",
    b"x-request-id",
    b"x-forwarded-host",
    b"accept",
    b"transfer-encoding",
)
HEADER = st.tuples(st.sampled_from(HEADERS), st.binary(max_size=40))
JSON = [(b"host", b"localhost"), (b"content-type", b"application/json")]
BODIES = [{"text": "good", "title": ""}, {"inputs": [{"text": "good"}, {"text": "坏"}]}]


class Service:
    """The app around a stub in a running event loop."""

    def __init__(self) -> None:
        self._runner = asyncio.Runner()
        limits = {"characters": 500, "body_bytes": 4096, "body_timeout_s": 0.2}
        self._app: FastAPI = build_app(
            Stub(), MODEL, ServeParams.model_validate({"max_items": 8, "limits": limits})
        )

    def ask(self, *request: Any) -> RawAnswer:
        """Send a request, and check what holds for every answer."""
        answer = self._runner.run(exchange(self._app, *request))
        assert answer.status in STATUSES
        assert len(answer.values(b"x-request-id")) == 1
        assert answer.values(b"x-content-type-options") == [b"nosniff"]
        assert not answer.values(b"location")
        if answer.values(b"content-type") == [b"application/json"]:
            json.loads(answer.body or b"{}")
        return answer

    def close(self) -> None:
        self._runner.close()


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    made = Service()
    yield made
    made.close()


@given(
    st.sampled_from(METHODS),
    st.one_of(st.sampled_from(PATHS), TEXTS.map(lambda text: f"/{text}")),
    st.sampled_from(HOSTS),
    st.lists(HEADER, max_size=6),
    st.lists(st.binary(max_size=2000), min_size=1, max_size=4),
)
def test_any_request(
    service: Service,
    method: str,
    path: str,
    host: bytes,
    headers: list[tuple[bytes, bytes]],
    chunks: list[bytes],
) -> None:
    answer = service.ask(method, path, [(b"host", host), *headers], chunks)
    if host in (b"evil.example", b""):
        assert answer.status in (400, 421)


@given(
    st.sampled_from(["/v1/predict", "/v1/explain"]),
    st.sampled_from(BODIES).flatmap(changed_json),
)
def test_any_body(service: Service, path: str, body: bytes) -> None:
    answer = service.ask("POST", path, JSON, [body[:2000], body[2000:]])
    assert answer.status in (200, 413, 422)
    if answer.status == 422:
        assert body not in answer.body or len(body) < 8


@given(st.text(max_size=100))
def test_any_text_is_answered_or_refused(service: Service, text: str) -> None:
    body = json.dumps({"text": text}).encode()
    answer = service.ask("POST", "/v1/predict", JSON, [body])
    assert (answer.status == 200) == bool(text.strip()) or "boom" in text
