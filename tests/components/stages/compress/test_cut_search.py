"""The search for the cut with the least loss finds what trying all cuts finds."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch

from components.models.base import PrunableDim
from components.stages.compress.cut_search import Cut, cheapest_cut, cuts_of

SHARES = (0.25, 0.5, 0.75)


def drawn_cuts(seed: int, groups: int) -> dict[str, list[Cut]]:
    """Return convex losses and savings of some groups."""
    rng = np.random.default_rng(seed)
    cuts = {}
    for group in range(groups):
        weight, saved = rng.uniform(0.1, 3), rng.uniform(0.1, 0.9 / groups)
        options = [Cut(share, weight * share**2, saved * share) for share in (0.0, *SHARES)]
        cuts[f"group {group}"] = options
    return cuts


@pytest.mark.parametrize("seed", range(20))
def test_no_other_cut_with_the_time_loses_less_than_the_next_step_does(seed: int) -> None:
    cuts = drawn_cuts(seed, 4)
    least = 1 - sum(options[-1].saved for options in cuts.values())
    wanted = (1 + least) / 2
    chosen = cheapest_cut(cuts, wanted)
    by_share = {name: {cut.share: cut for cut in options} for name, options in cuts.items()}
    picked = [by_share[name][share] for name, share in chosen.items()]
    used = 1 - sum(cut.saved for cut in picked)
    assert used <= wanted
    losses = [
        sum(cut.loss for cut in combination)
        for combination in product(*cuts.values())
        if 1 - sum(cut.saved for cut in combination) <= used
    ]
    # Among the cuts that are as fast as the one that was found, none loses less.
    assert sum(cut.loss for cut in picked) <= min(losses) + 1e-9


def test_a_time_that_cannot_be_reached_cuts_all_the_most() -> None:
    cuts = drawn_cuts(0, 3)
    assert set(cheapest_cut(cuts, 0.0).values()) == {SHARES[-1]}


def test_the_whole_time_cuts_nothing() -> None:
    assert set(cheapest_cut(drawn_cuts(0, 3), 1.0).values()) == {0.0}


def test_dimensions_of_a_group_are_cut_together() -> None:
    dims = [PrunableDim("a.0", 4, [], group="a"), PrunableDim("a.1", 4, [], group="a")]
    scores = {"a.0": torch.tensor([4.0, 1.0, 2.0, 3.0]), "a.1": torch.tensor([0.0, 8.0, 8.0, 8.0])}
    cuts = cuts_of(dims, scores, (0.25, 0.5), {"a": {0.0: 0.0, 0.25: 0.1, 0.5: 0.2}})
    assert cuts == {"a": [Cut(0.0, 0.0, 0.0), Cut(0.25, 1.0, 0.1), Cut(0.5, 11.0, 0.2)]}


def test_shares_that_are_rounded_alike_are_one_cut_that_costs_what_is_really_cut() -> None:
    dim = PrunableDim("a", 32, [("a.weight", 0, 0, 1)])
    scores = {"a": torch.arange(32.0)}
    savings = {"a": {0.0: 0.0, 0.5: 0.4}}
    cuts = cuts_of([dim], scores, (0.1, 0.2, 0.3, 0.5, 0.9), savings, multiple=16)
    assert cuts == {"a": [Cut(0.0, 0.0, 0.0), Cut(0.3, 120.0, 0.4)]}
    halfway = cuts_of([dim], scores, (0.25,), savings, multiple=8)
    assert halfway == {"a": [Cut(0.0, 0.0, 0.0), Cut(0.25, 28.0, 0.2)]}
