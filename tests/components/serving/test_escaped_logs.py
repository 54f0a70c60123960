"""The log of a service quotes clients as text: one message is one, whatever a client sends."""

from __future__ import annotations

import io
import logging
import threading
import time
from collections.abc import Sequence
from typing import Any

import httpx
import pytest
import uvicorn
from stub import MODEL, Stub

from components.serving.http.app import build_app
from components.serving.replicas.escaped_logs import escape_logs
from tests.hostile import HOSTILE, READABLE, raw_in

FORGED = "ERROR 2026-01-01 approved by root"


class Quoting(Stub):
    """Breaks with an error that quotes the query."""

    def score(self, rows: Sequence[Any]) -> Sequence[Any]:
        raise RuntimeError(f"cannot score {rows[0].row['text']}")


@pytest.fixture
def log() -> Any:
    """What all handlers of this process would write."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
    for name in ("ray.serve", "uvicorn.error", "asyncio"):
        logging.getLogger(name).addHandler(handler)
    yield stream
    for name in ("ray.serve", "uvicorn.error", "asyncio"):
        logging.getLogger(name).removeHandler(handler)


@pytest.mark.parametrize("name", HOSTILE | READABLE)
def test_messages_and_tracebacks_are_text(name: str, log: io.StringIO) -> None:
    escape_logs()
    escape_logs()
    text = (HOSTILE | READABLE)[name][:5000]
    logger = logging.getLogger("ray.serve")
    try:
        raise RuntimeError(f"{text}\n{FORGED}")
    except RuntimeError:
        logger.exception("broken by %s", f"{text}\n{FORGED}")
    shown = log.getvalue()
    assert not raw_in(shown)
    begins = [line for line in shown.split("\n") if line.startswith("ERROR")]
    assert len(begins) == 1 and begins[0].startswith("ERROR broken by ")


def test_a_broken_model_of_a_real_server_logs_text(log: io.StringIO) -> None:
    config = uvicorn.Config(build_app(Quoting(), MODEL), port=0, log_config=None)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    text = f"good \x1b]0;pwned\x07 \u202e\r\n{FORGED}"
    answer = httpx.post(f"{url}/v1/predict", json={"text": text}, timeout=60)
    server.should_exit = True
    thread.join()
    assert answer.status_code == 500
    shown = log.getvalue()
    assert r"cannot score good \x1b]0;pwned\x07 \u202e" in shown
    assert not raw_in(shown) and f"\n{FORGED}" not in shown
