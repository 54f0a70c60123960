"""Greedy selection of members: never worse than the best one, of equal ones the first."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.stages.compress.ensemble_selection import pick_members


def accuracy(outputs: np.ndarray, target: np.ndarray, counts: Sequence[int]) -> float:
    """Return the share of right answers of the mean output (n, c) of members (m, n, c)."""
    mean = np.tensordot(np.array(counts), outputs, 1)
    return float((mean.argmax(1) == target).mean())


@given(st.integers(0, 2**32 - 1), st.integers(1, 6), st.integers(1, 12))
def test_the_ensemble_is_never_worse_than_its_best_member(
    seed: int, members: int, most: int
) -> None:
    rng = np.random.default_rng(seed)
    outputs = rng.random((members, 20, 3))
    target = rng.integers(0, 3, 20)

    def score(counts: Sequence[int]) -> float:
        return accuracy(outputs, target, counts)

    counts = pick_members(score, members, most)
    alone = [score(one) for one in np.eye(members, dtype=int).tolist()]
    assert score(counts) >= max(alone)
    assert 1 <= sum(counts) <= most
    if sum(counts) == 1:
        # Of equally good members the first is picked.
        assert counts.index(1) == alone.index(max(alone))


@pytest.mark.parametrize(
    ("scores", "most", "expected"),
    [
        # The best mixture is two thirds of the first member.
        ({(1, 0): 0.5, (0, 1): 0.4, (2, 0): 0.5, (1, 1): 0.6, (2, 1): 0.7, (1, 2): 0.6}, 3, [2, 1]),
        # Nothing improves on the second member.
        ({(1, 0): 0.5, (0, 1): 0.6, (1, 1): 0.6, (0, 2): 0.6}, 2, [0, 1]),
        # A pick that loses leads to one that gains.
        (
            {(1, 0): 0.5, (0, 1): 0.4, (2, 0): 0.3, (1, 1): 0.45, (2, 1): 0.2, (1, 2): 0.8},
            3,
            [1, 2],
        ),
        # The limit ends it before.
        ({(1, 0): 0.5, (0, 1): 0.4, (2, 0): 0.3, (1, 1): 0.45}, 2, [1, 0]),
    ],
)
def test_the_best_of_the_nested_ensembles_is_taken(
    scores: dict[tuple[int, int], float], most: int, expected: list[int]
) -> None:
    assert pick_members(lambda counts: scores[counts[0], counts[1]], 2, most) == expected
