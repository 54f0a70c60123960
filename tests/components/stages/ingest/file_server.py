"""A server of files over HTTP, with the faults of real ones."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.ports import free_port


@dataclass
class FileServer:
    """What the server has, and what it was asked."""

    port: int
    files: dict[str, bytes] = field(default_factory=dict)
    # Path -> address that it redirects to.
    redirects: dict[str, str] = field(default_factory=dict)
    # Path -> status of its next answers.
    refusals: dict[str, list[int]] = field(default_factory=dict)
    # Path -> bytes after which the connection is cut, once.
    cuts: dict[str, int] = field(default_factory=dict)
    # Statuses of the answers after a connection was cut.
    refusals_after_cut: list[int] = field(default_factory=list)
    # Content-Range of the next answers with a part.
    content_ranges: list[str] = field(default_factory=list)
    etag: str = '"one"'
    has_ranges: bool = True
    has_length: bool = True
    # Path and header Range of each request.
    requests: list[tuple[str, str]] = field(default_factory=list)

    def put(self, path: str, content: bytes) -> dict[str, str]:
        """Serve a file, and return its params."""
        self.files[path] = content
        return {"url": self.url(path), "sha256": hashlib.sha256(content).hexdigest()}

    def url(self, path: str) -> str:
        """Return the URL of a path."""
        return f"http://127.0.0.1:{self.port}{path}"


class _Handler(BaseHTTPRequestHandler):
    """Answers to GET."""

    protocol_version = "HTTP/1.1"
    state: FileServer

    def do_GET(self) -> None:
        """Answer a request."""
        state = self.state
        path = self.path.partition("?")[0]
        state.requests.append((self.path, self.headers.get("Range", "")))
        if path in state.redirects:
            self._head(302, Location=state.redirects[path])
        elif state.refusals.get(path):
            self._head(state.refusals[path].pop(0))
        elif path not in state.files:
            self._head(404)
        else:
            self._send(path, state.files[path])

    def _send(self, path: str, content: bytes) -> None:
        """Send a file, or the rest of it."""
        state = self.state
        start = 0
        asked = self.headers.get("Range", "")
        if asked and state.has_ranges and self.headers.get("If-Range", state.etag) == state.etag:
            start = int(asked.removeprefix("bytes=").rstrip("-"))
        headers = {"ETag": state.etag} if state.etag else {}
        rest = content[start:]
        if state.has_length:
            headers["Content-Length"] = str(len(rest))
        if start >= len(content):
            self._head(416)
            return
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
            if state.content_ranges:
                headers["Content-Range"] = state.content_ranges.pop(0)
        self._head(206 if start else 200, **headers)
        if path in state.cuts:
            state.refusals[path] = state.refusals_after_cut
        with suppress(OSError):
            self.wfile.write(rest[: state.cuts.pop(path, len(rest))])
        self.close_connection = True

    def _head(self, status: int, **headers: str) -> None:
        """Send a status and headers."""
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if status not in (200, 206):
            self.send_header("Content-Length", "0")
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:
        """Print nothing."""


@contextmanager
def file_server() -> Iterator[FileServer]:
    """Run a server on a free port of loopback."""
    state = FileServer(free_port())
    handler = type("Handler", (_Handler,), {"state": state})
    server = ThreadingHTTPServer(("127.0.0.1", state.port), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
