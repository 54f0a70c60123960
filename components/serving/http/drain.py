"""Drain of a service: it ends when all requests that it accepted are answered."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress


class Drain:
    """Accepts requests from when the model is warm until the service ends, and counts them."""

    def __init__(self) -> None:
        self.ready = False
        self.closing = False
        # requests that are being answered
        self.inside = 0
        self._empty = asyncio.Event()

    async def leave(self, timeout_s: float) -> None:
        """Accept no more requests, and wait until all are answered.

        Args:
            timeout_s: how long to wait at most, in seconds.
        """
        self.ready = False
        self.closing = True
        if self.inside:
            self._empty.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._empty.wait(), timeout_s)

    @contextmanager
    def passed(self) -> Iterator[None]:
        """Count a request as inside while the block runs."""
        self.inside += 1
        try:
            yield
        finally:
            self.inside -= 1
            if not self.inside:
                self._empty.set()
