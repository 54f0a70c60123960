"""A headless Chromium over its debugging protocol: open, type, look."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from websockets.sync.client import ClientConnection, connect

CHROMIUM = next(
    (
        found
        for name in ("chromium", "chromium-browser", "google-chrome", "chrome")
        if (found := shutil.which(name))
    ),
    None,
)
_DEADLINE_S = 60


class Tab:
    """One page, and what it has loaded and complained of."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket, self._number = socket, 0
        self.loaded: list[str] = []
        self.complaints: list[str] = []

    def tell(self, method: str, **params: Any) -> dict[str, Any]:
        """Send a command and return its result."""
        self._number += 1
        self._socket.send(json.dumps({"id": self._number, "method": method, "params": params}))
        while True:
            message = json.loads(self._socket.recv(_DEADLINE_S))
            self._note(message)
            if message.get("id") == self._number:
                assert "error" not in message, message
                return dict(message["result"])

    def _note(self, message: dict[str, Any]) -> None:
        told = message.get("params", {})
        if message.get("method") == "Network.requestWillBeSent":
            self.loaded.append(told["request"]["url"])
        if message.get("method") == "Log.entryAdded":
            self.complaints.append(told["entry"]["text"])
        if message.get("method") == "Runtime.exceptionThrown":
            self.complaints.append(told["exceptionDetails"]["text"])

    def open(self, url: str, width: int, language: str) -> None:
        """Show a page at a width, in pixels, to somebody who reads a language."""
        for domain in ("Page", "Network", "Log", "Runtime"):
            self.tell(f"{domain}.enable")
        self.tell(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=900,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        self.tell("Emulation.setUserAgentOverride", userAgent="test", acceptLanguage=language)
        self.loaded.clear()
        self.tell("Page.navigate", url=url)

    def see(self, expression: str) -> Any:
        """The value of a piece of JavaScript."""
        return self.tell(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )["result"].get("value")

    def wait(self, expression: str) -> None:
        """Until a piece of JavaScript is true."""
        until = time.monotonic() + _DEADLINE_S
        while not self.see(expression):
            assert time.monotonic() < until, f"never: {expression}; {self.complaints}"
            time.sleep(0.02)

    def shoot(self, path: Path) -> None:
        """A picture of the whole page."""
        path.write_bytes(
            base64.b64decode(
                self.tell("Page.captureScreenshot", captureBeyondViewport=True)["data"]
            )
        )


@contextmanager
def tab(folder: Path) -> Iterator[Tab]:
    """A fresh browser with one page.

    Args:
        folder: for its profile.
    """
    assert CHROMIUM is not None
    words = [
        CHROMIUM,
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--no-first-run",
        "--disable-dev-shm-usage",
        "--remote-debugging-port=0",
        f"--user-data-dir={folder}",
        "about:blank",
    ]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        told, until = folder / "DevToolsActivePort", time.monotonic() + _DEADLINE_S
        while not (told.is_file() and told.read_text().count("\n")):
            assert time.monotonic() < until and process.poll() is None, "Chromium does not come up"
            time.sleep(0.02)
        port = told.read_text().split()[0]
        page = next(
            each
            for each in httpx.get(f"http://127.0.0.1:{port}/json", trust_env=False).json()
            if each["type"] == "page"
        )
        with connect(page["webSocketDebuggerUrl"], max_size=None, proxy=None) as socket:
            yield Tab(socket)
    finally:
        process.terminate()
        process.wait(30)
