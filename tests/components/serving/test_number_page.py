"""The pages of a service whose answers are numbers with intervals, in a real Chromium."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvicorn
from browser import CHROMIUM, tab
from number_task import NUMBER, Prices, number_task

from components.monitoring.monitor_folder import LATEST, Monitoring
from components.monitoring.params import MonitorParams
from components.serving.http.app import build_app
from components.serving.http.messages import ModelInfo
from components.serving.http.monitoring_routes import ReplicaMonitor

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")
# A fixture.
__all__ = ["number_task"]
HEADINGS = "[...document.querySelectorAll('#looks h2')].map((title) => title.textContent)"


def finding(field: str, drifted: bool) -> dict[str, object]:
    return {"field": field, "rows": 20, "adjusted": 0.5, "drifted": drifted, "change": "1 -> 2"}


@pytest.fixture
def url(number_task: object, tmp_path: Path) -> Iterator[str]:
    """A service whose answers became worse."""
    assert number_task
    check = {"when": "now", "level": 0.01, "drift": ["error"], "findings": [finding("error", True)]}
    waiting = {"error": [0, 20], "inputs": [3, 50]}
    state = {"version": 1, "windows": 1, "alarms": 1, "history": [], "waiting": waiting}
    (tmp_path / LATEST).write_text(json.dumps(state | {"error": check}), encoding="utf-8")
    watch = ReplicaMonitor(Monitoring(tmp_path, MonitorParams(), NUMBER))
    model = ModelInfo(
        name="prices", version="1", data_hash="ab" * 32, examples=[{"text": "4.5", "size": None}]
    )
    app = build_app(Prices({}), model, monitored=watch)
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join()
    watch.log.close()


def test_a_number_has_its_interval_and_its_own_check(url: str, tmp_path: Path) -> None:
    with tab(tmp_path / "chromium") as page:
        page.open(f"{url}/", 390, "en-US")
        page.wait("document.getElementById('go')?.disabled === false")
        page.see("document.querySelector('#examples button').click()")
        page.wait("!document.getElementById('result').hidden")
        assert page.see("document.getElementById('value').textContent") == "4.503.5 to 5.5"
        page.see("document.querySelector('input[type=number]').value = '1.5'")
        page.see("document.getElementById('go').click()")
        page.wait("document.getElementById('value').textContent === '6.005 to 7'")
        assert page.see("document.getElementById('unsure').hidden")
        assert page.see("document.getElementById('parts').hidden")
        for language, title in (("en-US", "Error of answers"), ("zh-CN", "误差")):
            page.open(f"{url}/monitor", 1200, language)
            page.wait("document.querySelectorAll('#looks section').length === 2")
            assert page.see(HEADINGS)[1] == title
            assert page.see("document.querySelector('#looks td').textContent") == "error"
            assert "error" in page.see("document.getElementById('state').textContent")
        assert not page.complaints
