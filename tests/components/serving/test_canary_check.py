"""When a new version is worse than the old one, by what their requests told."""

from __future__ import annotations

import random

from components.serving.rollout.canary_check import (
    CanaryParams,
    Tally,
    bucket,
    milliseconds,
    total,
    worse,
)

PARAMS = CanaryParams()


def tally(requests: int, milliseconds: float, errors: int = 0, seed: int = 7) -> Tally:
    """Requests whose times scatter by a third around a median."""
    made, draw = Tally(), random.Random(seed)
    for number in range(requests):
        made.count(
            500 if number < errors else 200, milliseconds / 1000 * draw.lognormvariate(0, 0.3)
        )
    return made


def test_a_time_lies_below_the_edge_of_its_bucket_and_above_the_one_before() -> None:
    for seconds in (0.0002, 0.001, 0.0137, 0.25, 9.0):
        assert (
            milliseconds(bucket(seconds) - 1)
            < seconds * 1000
            <= milliseconds(bucket(seconds)) * (1 + 1e-9)
        )
    assert (bucket(0.0), bucket(1e6)) == (0, 159)


def test_two_equal_versions_are_never_told_apart() -> None:
    assert [
        worse(tally(count, 10, seed=seed), tally(1000, 10, seed=seed + 100), PARAMS)
        for count in (10, 200, 1000)
        for seed in range(20)
    ] == [None] * 60


def test_failures_send_it_back_only_beyond_what_the_old_version_has_too() -> None:
    old = tally(1000, 10)
    assert "3 of 3 requests failed" in str(worse(tally(3, 10, errors=3), old, PARAMS))
    assert worse(tally(100, 10, errors=1), old, PARAMS) is None
    assert worse(tally(1000, 10, errors=100), old, PARAMS) is not None
    assert worse(tally(1000, 10, errors=100), tally(1000, 10, errors=100), PARAMS) is None
    assert worse(tally(20, 10, errors=20), Tally(), PARAMS) is not None


def test_slowness_sends_it_back_beyond_the_factor_and_only_if_the_old_version_was_asked_enough() -> (
    None
):
    old = tally(1000, 10)
    reason = worse(tally(200, 40), old, PARAMS)
    assert reason is not None and "with the version before" in reason
    assert worse(tally(200, 15), old, PARAMS) is None
    assert worse(tally(200, 15), old, PARAMS.model_copy(update={"max_slowdown": 1.0})) is not None
    assert worse(tally(200, 40), tally(99, 10), PARAMS) is None


def test_replicas_add_up() -> None:
    parts = [tally(100, 10, errors=2), tally(50, 20)]
    whole = total(parts)
    assert (whole.requests, whole.errors, sum(whole.times)) == (150, 2, 150)
    assert parts[0].requests == 100
