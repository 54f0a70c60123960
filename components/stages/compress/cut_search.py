"""Choose how much of each structure is cut: the least loss for the time that is wanted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch

from components.models.base import PrunableDim
from components.stages.compress.prune import select, units_that_stay

_STEPS = 60


@dataclass(frozen=True)
class Cut:
    """A cut of one group of dimensions.

    Args:
        share: of the units that is to be cut, before it is rounded.
        loss: summed scores of the units that are lost.
        saved: share of the whole network's time that is saved.
        inside: groups of the modules that are dropped.
    """

    share: float
    loss: float
    saved: float
    inside: frozenset[str] = frozenset()


def group_of(dim: PrunableDim) -> str:
    """Return the name of the group of a dimension: its own, where it has none."""
    return dim.group or dim.name


def cuts_of(
    dims: Sequence[PrunableDim],
    scores: Mapping[str, torch.Tensor],
    shares: Sequence[float],
    savings: Mapping[str, Mapping[float, float]],
    multiple: int = 1,
) -> dict[str, list[Cut]]:
    """Return the different cuts of each group, from none on.

    Args:
        dims: all dimensions.
        scores: name of a dimension -> (units,).
        shares: that may be cut, ascending.
        savings: group -> share that is really cut -> share of the time that it saves. Between
            these shares the time is interpolated.
        multiple: to which the units that stay are rounded.
    """
    cuts: dict[str, list[Cut]] = {}
    for group in dict.fromkeys(map(group_of, dims)):
        members = [member for member in dims if group_of(member) == group]
        measured = dict(sorted(savings[group].items()))
        options = {members[0].size: Cut(0.0, 0.0, 0.0)}
        for share in shares:
            stay = units_that_stay(members[0], share, multiple)
            saved = np.interp(1 - stay / members[0].size, list(measured), list(measured.values()))
            loss = sum(_lost(scores[member.name], stay) for member in members)
            units = select(members[0], scores[members[0].name], share, multiple)
            inside = _lost_groups(members[0], units.tolist(), dims)
            # Of the shares that are rounded alike the first one counts.
            options.setdefault(stay, Cut(share, loss, float(saved), inside))
        cuts[group] = list(options.values())
    return cuts


def _lost_groups(
    modules: PrunableDim, stay: Sequence[int], dims: Sequence[PrunableDim]
) -> frozenset[str]:
    """Return the groups of dimensions inside of modules that do not stay.

    Args:
        modules: a dimension, which has none inside unless its units are modules.
        stay: units that stay.
        dims: all dimensions.
    """
    lost = set(range(modules.size)).difference(stay)
    return frozenset(group_of(dim) for dim in dims if modules.unit_of(dim.name) in lost)


def _lost(scores: torch.Tensor, stay: int) -> float:
    """Return the summed scores of all units but the best ones."""
    return float(scores.sort().values[: len(scores) - stay].sum())


def cheapest_cut(cuts: Mapping[str, Sequence[Cut]], time_share: float) -> dict[str, float]:
    """Return the share of each group with the least loss within a share of the time.

    For each number of modules that may be dropped, the units of the others are searched. Where the
    time cannot be reached, all groups are cut the most.

    Args:
        cuts: group -> its cuts, from none to the largest.
        time_share: of the whole network's time that is left, 0-1.
    """
    depth = [group for group, options in cuts.items() if options[-1].inside]
    plans = []
    for dropped in product(*(cuts[group] for group in depth)):
        left_out = set(depth).union(*(cut.inside for cut in dropped))
        units = {group: options for group, options in cuts.items() if group not in left_out}
        saved = sum(cut.saved for cut in dropped)
        plan = _cheapest_units(units, time_share + saved)
        plans.append(plan | dict(zip(depth, dropped, strict=True)))
    enough = [plan for plan in plans if _time(plan) <= time_share]
    best = min(enough, key=_loss) if enough else min(plans, key=_time)
    # The groups of a dropped module are cut the most as well.
    return {group: best.get(group, options[-1]).share for group, options in cuts.items()}


def _cheapest_units(cuts: Mapping[str, Sequence[Cut]], time_share: float) -> dict[str, Cut]:
    """Return the cut of each group with the least loss within a share of the time.

    The multiplier of time is found by bisection (Everett 1963). The arguments are those of
    `cheapest_cut`.
    """
    largest = {group: options[-1] for group, options in cuts.items()}
    if _time(largest) >= time_share:
        return largest
    low, high = 0.0, 1.0
    while _time(_best(cuts, high)) > time_share and high < 1e30:
        high *= 4
    for _ in range(_STEPS):
        middle = (low + high) / 2
        if _time(_best(cuts, middle)) > time_share:
            low = middle
        else:
            high = middle
    return _best(cuts, high)


def _best(cuts: Mapping[str, Sequence[Cut]], multiplier: float) -> dict[str, Cut]:
    """Return the cut of each group with the least loss, where saved time is worth so much."""
    return {
        group: min(options, key=lambda cut: cut.loss - multiplier * cut.saved)
        for group, options in cuts.items()
    }


def _time(chosen: Mapping[str, Cut]) -> float:
    return 1 - sum(cut.saved for cut in chosen.values())


def _loss(chosen: Mapping[str, Cut]) -> float:
    return sum(cut.loss for cut in chosen.values())
