"""Canary: compares the requests to a new version with those to the old version."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

from pydantic import Field

from components.core.params import Strict

# buckets of times: edges 9 % apart, up to about 100 s
_PER_DOUBLING = 8
_SHORTEST_MS = 0.1
_BUCKETS = 160
_SLOW = 0.95
# requests to the old version from which its times are known well enough
_MIN_REQUESTS = 100


class CanaryParams(Strict):
    """Section `serve.canary` of params.yaml: how traffic moves to a new champion."""

    latency_ms: float = Field(
        100.0,
        gt=0,
        description="Most milliseconds of an answer (95th percentile) in the preflight.",
    )
    share: float = Field(
        0.1, ge=0, lt=1, description="Share of the requests at first (0: all at once)."
    )
    requests: int = Field(
        500, ge=1, description="Requests without trouble after which all traffic moves."
    )
    minutes: float = Field(
        5.0, ge=0, description="Minutes after which all traffic moves with fewer requests."
    )
    watch_minutes: float = Field(
        5.0, ge=0, description="Minutes that the old version stays loaded to take over again."
    )
    max_error_rate: float = Field(
        0.01, ge=0, lt=1, description="Largest share of failures beyond the old version's."
    )
    max_slowdown: float = Field(
        2.0, ge=1, description="Largest ratio to the old version's 95th percentile of latency."
    )
    alpha: float = Field(
        0.001, gt=0, lt=0.5, description="Chance of sending a good version back, at each check."
    )


@dataclass
class Tally:
    """Counts of the requests to one version. Tallies of several replicas add up.

    Attributes:
        requests: all of them.
        errors: those with a status from 500 on.
        times: requests by time to answer, in buckets that grow geometrically.
    """

    requests: int = 0
    errors: int = 0
    times: list[int] = field(default_factory=lambda: [0] * _BUCKETS)

    def count(self, status: int, seconds: float) -> None:
        """Add one request."""
        self.requests += 1
        self.errors += status >= 500
        self.times[bucket(seconds)] += 1


def bucket(seconds: float) -> int:
    """Return the bucket in which a time is counted."""
    milliseconds = max(seconds, 1e-9) * 1000
    index = math.ceil(_PER_DOUBLING * math.log2(milliseconds / _SHORTEST_MS))
    return min(_BUCKETS - 1, max(0, index))


def milliseconds(index: int) -> float:
    """Return the upper edge of a bucket."""
    return float(_SHORTEST_MS * 2 ** (index / _PER_DOUBLING))


def total(tallies: Iterable[Tally]) -> Tally:
    """Return several replicas' tallies as one."""
    result = Tally()
    for tally in tallies:
        result.requests += tally.requests
        result.errors += tally.errors
        result.times = [a + b for a, b in zip(result.times, tally.times, strict=True)]
    return result


def worse(new: Tally, old: Tally, params: CanaryParams) -> str | None:
    """Return why the new version must go, or None.

    Two exact one-sided binomial tests are made at level `alpha`. The first compares the failures
    of the new version with the old version's rate plus `max_error_rate`. The second counts its
    requests slower than `max_slowdown` times the old version's 95th percentile: of an equally
    quick version it would be one in twenty. It needs a hundred requests to the old version.

    Args:
        new: to the new version.
        old: to the old one, in the same time.
        params: limits.
    """
    from scipy.special import bdtrc

    rate = old.errors / old.requests if old.requests else 0.0
    allowed = min(rate + params.max_error_rate, 1.0)
    if new.errors and bdtrc(new.errors - 1, new.requests, allowed) < params.alpha:
        return (
            f"{new.errors} of {new.requests} requests failed, "
            f"{old.errors} of {old.requests} with the version before"
        )
    if old.requests < _MIN_REQUESTS or not new.requests:
        return None
    edge = _percentile(old) + round(_PER_DOUBLING * math.log2(params.max_slowdown))
    slow = sum(new.times[edge + 1 :])
    if slow and bdtrc(slow - 1, new.requests, 1 - _SLOW) < params.alpha:
        return (
            f"95 % of answers within {milliseconds(_percentile(new)):.0f} ms, "
            f"{milliseconds(_percentile(old)):.0f} ms with the version before"
        )
    return None


def _percentile(tally: Tally) -> int:
    """Return the bucket below whose edge 95 % of the requests are."""
    wanted = _SLOW * tally.requests
    seen = 0
    for index, count in enumerate(tally.times):
        seen += count
        if seen >= wanted:
            return index
    return _BUCKETS - 1
