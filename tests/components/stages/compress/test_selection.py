"""Which units stay."""

from __future__ import annotations

import pytest
import torch

from components.models.base import PrunableDim
from components.stages.compress.prune import score, select


@pytest.mark.parametrize(
    ("share", "minimum", "stay"),
    [
        (0.5, 1, [0, 3]),
        (0.1, 1, [0, 1, 2, 3]),
        (0.99, 1, [3]),
        (0.99, 2, [0, 3]),
        (0.5, 9, [0, 1, 2, 3]),
    ],
)
def test_the_strongest_stay_in_their_order(share: float, minimum: int, stay: list[int]) -> None:
    assert (
        select(PrunableDim("d", 4, [], minimum), torch.tensor([3.0, 1.0, 2.0, 4.0]), share).tolist()
        == stay
    )


def test_a_score_is_the_norm_over_all_places_but_running_statistics() -> None:
    state = {
        "a.weight": torch.tensor([[9.0, 9.0], [3.0, 4.0], [0.0, 0.0], [1.0, 0.0], [0.0, 2.0]]),
        "b.weight": torch.tensor([[12.0, 0.0], [0.0, 1.0]]),
        "n.running_var": torch.full((2,), 99.0),
    }
    dim = PrunableDim(
        "d", 2, [("a.weight", 0, 1, 2), ("b.weight", 1, 0, 1), ("n.running_var", 0, 0, 1)]
    )
    assert score(dim, state).tolist() == pytest.approx([(25 + 144) ** 0.5, (1 + 4 + 1) ** 0.5])
