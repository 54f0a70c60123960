"""One X-Request-Id in each answer, whatever ids a client sends."""

from __future__ import annotations

import json
from typing import Any

import pytest
from raw_asgi import Headers, send_raw

from components.orchestration.cluster import supervisor
from components.serving.replicas.ray_middlewares import (
    HeadersWithBody,
    SingleRequestId,
    middlewares,
)

JSON = [(b"host", b"localhost"), (b"content-type", b"application/json")]
HOSTILE = [b"", b"a" * 100_000, b"\xff\xfe", b"../../x", b"a\r\nSet-Cookie: x=1", b"<script>"]


def behind_serve(app: Any) -> Any:
    """The app as Ray Serve runs it, in a proxy and in a replica behind HAProxy."""
    from ray.serve._private.http_util import _apply_middlewares

    return _apply_middlewares(app, middlewares())


@pytest.mark.parametrize("value", HOSTILE)
@pytest.mark.parametrize("times", [0, 1, 3])
def test_the_one_id_is_that_of_the_answer(value: bytes, times: int, client: Any) -> None:
    headers: Headers = [*JSON, *[(b"X-Request-ID", value), (b"x-request-id", value)] * times]
    app = behind_serve(client().app)
    answer = send_raw(app, "POST", "/v1/predict", headers, [b'{"text": "good"}'])
    assert answer.status == 200
    assert answer.values(b"x-request-id") == [json.loads(answer.body)["id"].encode()]
    refused = send_raw(app, "GET", "/none", headers)
    assert refused.status == 404
    assert len(refused.values(b"x-request-id")) == 1
    assert value not in refused.values(b"x-request-id")


def test_answers_of_serve_itself_have_one_too() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 503, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    sent = [*JSON, (b"x-request-id", b"mine")]
    ids = send_raw(behind_serve(app), "GET", "/-/healthz", sent).values(b"x-request-id")
    assert len(ids) == 1 and ids != [b"mine"]


def test_ray_serve_finds_it_by_the_name_in_the_environment_of_clusters(tmp_path: Any) -> None:
    from ray.serve._private.utils import call_function_from_import_path

    named = supervisor.environment(tmp_path / "token")["RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH"]
    assert [each.cls for each in call_function_from_import_path(named)] == [
        HeadersWithBody,
        SingleRequestId,
    ]
