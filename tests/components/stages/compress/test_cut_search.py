"""The search for the cut with the least loss finds what trying all cuts finds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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


@pytest.mark.parametrize("seed", range(10))
def test_modules_and_units_are_cut_with_the_least_loss_for_the_time(seed: int) -> None:
    cuts = dict(zip("abcd", drawn_cuts(seed, 4).values(), strict=True))
    rng = np.random.default_rng(seed)
    # Without the first module, the groups a and b are gone; without both, all are.
    first = Cut(0.5, rng.uniform(0.5, 3), 0.48, frozenset("ab"))
    both = Cut(0.75, first.loss + rng.uniform(1, 4), 0.96, frozenset("abcd"))
    cuts["modules"] = [Cut(0.0, 0.0, 0.0), first, both]
    for wanted in (0.9, 0.7, 0.5, 0.3, 0.1):
        chosen = cheapest_cut(cuts, wanted)
        loss, time = plan_of(cuts, chosen)
        assert time <= wanted
        shares = [[cut.share for cut in options] for options in cuts.values()]
        plans = [plan_of(cuts, dict(zip(cuts, plan, strict=True))) for plan in product(*shares)]
        assert loss <= min(other for other, used in plans if used <= time) + 1e-9
    assert set(chosen.values()) == {0.75}


def plan_of(cuts: Mapping[str, Sequence[Cut]], chosen: Mapping[str, float]) -> tuple[float, float]:
    """Return loss and time of a plan. What is inside of dropped modules costs and saves nothing."""
    picked = {}
    for group, options in cuts.items():
        picked[group] = next(cut for cut in options if cut.share == chosen[group])
    lost = picked["modules"].inside
    counted = [cut for group, cut in picked.items() if group not in lost]
    return sum(cut.loss for cut in counted), 1 - sum(cut.saved for cut in counted)


def test_a_cut_of_modules_names_the_groups_inside_of_the_worst_ones() -> None:
    dims = [PrunableDim("layers", 3, (), modules=True)]
    dims += [PrunableDim(f"layers.{number}.heads", 2, []) for number in range(3)]
    scores = {dim.name: torch.ones(dim.size) for dim in dims}
    scores["layers"] = torch.tensor([2.0, 1.0, 3.0])
    savings = {dim.name: {0.0: 0.0, 0.9: 0.9} for dim in dims}
    cuts = cuts_of(dims, scores, (0.3, 0.6), savings, multiple=16)
    assert [(cut.loss, sorted(cut.inside)) for cut in cuts["layers"]] == [
        (0.0, []),
        (1.0, ["layers.1.heads"]),
        (3.0, ["layers.0.heads", "layers.1.heads"]),
    ]
    assert cuts["layers"][2].saved == pytest.approx(2 / 3)
    assert not any(cut.inside for cut in cuts["layers.0.heads"])


def test_shares_that_are_rounded_alike_are_one_cut_that_costs_what_is_really_cut() -> None:
    dim = PrunableDim("a", 32, [("a.weight", 0, 0, 1)])
    scores = {"a": torch.arange(32.0)}
    savings = {"a": {0.0: 0.0, 0.5: 0.4}}
    cuts = cuts_of([dim], scores, (0.1, 0.2, 0.3, 0.5, 0.9), savings, multiple=16)
    assert cuts == {"a": [Cut(0.0, 0.0, 0.0), Cut(0.3, 120.0, 0.4)]}
    halfway = cuts_of([dim], scores, (0.25,), savings, multiple=8)
    assert halfway == {"a": [Cut(0.0, 0.0, 0.0), Cut(0.25, 28.0, 0.2)]}
