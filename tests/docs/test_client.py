"""The client of docs/examples against a tiny real server that is away, slow, busy and strict."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest

from tests.ports import free_port

CLIENT = Path(__file__).parents[2] / "docs" / "examples" / "client.py"
MODEL = {"name": "default", "version": "3", "data_hash": "d"}


class Service(BaseHTTPRequestHandler):
    """Answers as it was told to, one status after the other; the last one stays."""

    script: ClassVar[list[int]] = []
    asked: ClassVar[list[tuple[str, Any]]] = []

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.asked.append((self.headers.get("Authorization", ""), body))
        status = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        if status == 0:
            self.connection.close()  # as a replica that is killed
            return
        told = (
            {
                "predictions": [{"label": "好评", "probability": 0.9} for _ in body["inputs"]],
                "model": MODEL,
            }
            if status == 200
            else {"detail": "no"}
        )
        content = json.dumps(told).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        if status in (429, 503):
            self.send_header("Retry-After", "1")
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        return


@pytest.fixture
def service() -> Iterator[str]:
    """Its URL."""
    Service.asked.clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Service)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def run(url: str, *texts: str, code: str | None = None) -> subprocess.CompletedProcess[str]:
    words = ["-c", code, url] if code else [str(CLIENT), url, *texts]
    return subprocess.run(
        [sys.executable, *words],
        env={
            "PATH": "",
            "GRISTMILL_API_KEY": "k",
            "PYTHONPATH": str(CLIENT.parent),
            "PYTHONUTF8": "1",
        },
        capture_output=True,
        text=True,
    )


def test_it_asks_again_while_the_service_is_busy_or_loses_the_connection(service: str) -> None:
    Service.script[:] = [503, 0, 200]
    done = run(service, "房间很干净", "fine")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "好评  90.0%  房间很干净",
        "好评  90.0%  fine",
        "by default version 3",
    ]
    assert (
        Service.asked == [("Bearer k", {"inputs": [{"text": "房间很干净"}, {"text": "fine"}]})] * 3
    )


def test_it_does_not_ask_again_what_is_refused(service: str) -> None:
    Service.script[:] = [422]
    done = run(service, "x")
    assert "ValueError: 422" in done.stderr and len(Service.asked) == 1


def test_its_patience_ends(service: str) -> None:
    Service.script[:] = [429]
    code = "import sys, client\nclient.Client(sys.argv[1], patience_s=1.5).predict([{'text': 'x'}])"
    done = run(service, code=code)
    assert "TimeoutError: no answer within 1.5 s: 429" in done.stderr and len(Service.asked) == 2
    nobody = run(f"http://127.0.0.1:{free_port()}", code=code)
    assert "TimeoutError: no answer within 1.5 s" in nobody.stderr
