"""The client against a server that misbehaves."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from components.core.errors import EnvironmentFault, InputError
from components.serving.http import client as module
from components.serving.http.client import ask, healthy

GOOD = {"predictions": [{"label": "a"}], "model": {"name": "m", "version": "1", "data_hash": "h"}}


class Server(HTTPServer):
    """Answers with the statuses it is given, one after the other, and notes what it was asked."""

    statuses: list[int]
    seen: list[tuple[str | None, bytes]]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        assert isinstance(self.server, Server)
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.seen.append((self.headers["authorization"], body))
        self.send_response(self.server.statuses.pop(0))
        self.end_headers()
        self.wfile.write(json.dumps(GOOD).encode())

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"something else")

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(module, "_FIRST_PAUSE_S", 0.01)
    with Server(("127.0.0.1", 0), Handler) as made:
        made.statuses, made.seen = [], []
        thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield made
        made.shutdown()
        thread.join()


def test_a_busy_service_is_asked_again_with_the_key(server):
    server.statuses = [503, 200]
    assert ask(server.url, [{"text": "好"}], key="k") == GOOD
    assert [authorization for authorization, _ in server.seen] == ["Bearer k", "Bearer k"]
    assert json.loads(server.seen[0][1]) == {"inputs": [{"text": "好"}]}


@pytest.mark.parametrize(
    ("status", "kind", "words"),
    [
        (422, InputError, "422"),
        (413, InputError, "413"),
        (401, EnvironmentFault, "API key"),
        (500, EnvironmentFault, "500"),
    ],
)
def test_a_refusal_is_told_and_not_tried_again(server, status, kind, words):
    server.statuses = [status]
    with pytest.raises(kind, match=words):
        ask(server.url, [{"text": "a"}])
    assert len(server.seen) == 1


def test_a_service_that_stays_busy_or_is_not_there_is_an_environment_fault(server, unused_port):
    server.statuses = [503] * 9
    with pytest.raises(EnvironmentFault, match="status 503"):
        ask(server.url, [])
    with pytest.raises(EnvironmentFault, match="does not answer"):
        ask(f"http://127.0.0.1:{unused_port}", [])


def test_a_proxy_of_the_environment_is_not_used(server, monkeypatch, unused_port):
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{unused_port}")
    server.statuses = [200]
    assert ask(server.url, []) == GOOD


def test_another_server_on_the_port_is_not_a_healthy_service(server, unused_port):
    assert healthy(server.url) is None
    assert healthy(f"http://127.0.0.1:{unused_port}") is None
