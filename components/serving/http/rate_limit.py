"""Limit on the rate of requests: a token bucket for each key."""

from __future__ import annotations

import time
from collections.abc import Callable

# Key of the bucket in the scope of a request.
BUCKET = "gristmill.bucket"


class TokenBucket:
    """A token bucket that may go into debt: the cost of a request is known after it was let in.

    Args:
        rate: items a second; None: any number.
        burst: items that may come at once after a pause.
        clock: seconds.
    """

    def __init__(
        self, rate: float | None, burst: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._rate = rate
        self._burst = burst
        self._clock = clock
        self._level = float(burst)
        self._filled_at = clock()

    def delay(self) -> float:
        """Return the seconds until another request may come; 0: now."""
        if self._rate is None:
            return 0.0
        return max(0.0, (1 - self._filled()) / self._rate)

    def charge(self, items: int) -> None:
        """Subtract the cost of a request.

        Args:
            items: of the request.
        """
        if self._rate is not None:
            self._level = self._filled() - items

    def _filled(self) -> float:
        assert self._rate is not None
        now = self._clock()
        refill = (now - self._filled_at) * self._rate
        self._level = min(self._burst, self._level + refill)
        self._filled_at = now
        return self._level
