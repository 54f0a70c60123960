"""A new version beside the old one: what each request told, and when that says that the new one is worse."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

from pydantic import Field

from components.core.params import Strict

_PER_DOUBLING, _SHORTEST_MS, _BUCKETS = 8, 0.1, 160  # edges 9 % apart, up to about 100 s
_SLOW = 0.95


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
    """What the requests to one version told. Tallies of several replicas add up."""

    requests: int = 0
    errors: int = 0  # statuses from 500 on
    times: list[int] = field(
        default_factory=lambda: [0] * _BUCKETS
    )  # requests by time to answer, in buckets that grow geometrically

    def count(self, status: int, seconds: float) -> None:
        """Add one request."""
        self.requests += 1
        self.errors += status >= 500
        self.times[bucket(seconds)] += 1


def bucket(seconds: float) -> int:
    """Where a time is counted."""
    return min(
        _BUCKETS - 1,
        max(0, math.ceil(_PER_DOUBLING * math.log2(max(seconds, 1e-9) * 1000 / _SHORTEST_MS))),
    )


def milliseconds(index: int) -> float:
    """The upper edge of a bucket."""
    return float(_SHORTEST_MS * 2 ** (index / _PER_DOUBLING))


def total(tallies: Iterable[Tally]) -> Tally:
    """Several replicas' tallies as one."""
    found = Tally()
    for tally in tallies:
        found.requests += tally.requests
        found.errors += tally.errors
        found.times = [a + b for a, b in zip(found.times, tally.times, strict=True)]
    return found


def worse(new: Tally, old: Tally, params: CanaryParams) -> str | None:
    """Why the new version must go, or None.

    Two exact one-sided binomial tests at level `alpha`: its failures against the old version's rate plus `max_error_rate`; and its requests slower than
    `max_slowdown` times the old version's 95th percentile, of which an equally quick one would have one in twenty. The second wants a hundred requests to the old one.

    Args:
        new: to the new version.
        old: to the old one, in the same time.
        params: limits.
    """
    from scipy.special import bdtrc

    allowed = (old.errors / old.requests if old.requests else 0.0) + params.max_error_rate
    if new.errors and bdtrc(new.errors - 1, new.requests, min(allowed, 1.0)) < params.alpha:
        return f"{new.errors} of {new.requests} requests failed, {old.errors} of {old.requests} with the version before"
    if old.requests < 100 or not new.requests:
        return None
    edge = _percentile(old) + round(_PER_DOUBLING * math.log2(params.max_slowdown))
    slow = sum(new.times[edge + 1 :])
    if slow and bdtrc(slow - 1, new.requests, 1 - _SLOW) < params.alpha:
        return f"95 % of answers within {milliseconds(_percentile(new)):.0f} ms, {milliseconds(_percentile(old)):.0f} ms with the version before"
    return None


def _percentile(tally: Tally) -> int:
    """The bucket below whose edge 95 % of the requests are."""
    wanted, seen = _SLOW * tally.requests, 0
    for index, count in enumerate(tally.times):
        seen += count
        if seen >= wanted:
            return index
    return _BUCKETS - 1
