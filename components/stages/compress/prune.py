"""Structured pruning: score units, select and cut them.

Which parameters belong to a unit is known to the net's `PruningSpec` alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from components.models.base import PrunableDim, PruningSpec


def score(dim: PrunableDim, state: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Return the group L2 norm of each unit (Fang et al. 2023, arXiv:2301.12900).

    It is taken over all parameters of a unit. Running statistics are left out.

    Args:
        dim: the dimension.
        state: parameters by name.

    Returns:
        (units,)
    """
    total = torch.zeros(dim.size)
    for name, axis, first, width in dim.slices:
        if name.endswith(("running_mean", "running_var")):
            continue
        units = state[name].narrow(axis, first, dim.size * width)
        per_unit = units.movedim(axis, 0).reshape(dim.size, -1)
        total += per_unit.float().pow(2).sum(1)
    return total.sqrt()


def select(dim: PrunableDim, scores: torch.Tensor, share: float) -> torch.Tensor:
    """Return the units that stay: the ones with the highest scores, at least the minimum.

    Args:
        dim: the dimension.
        scores: (units,)
        share: of the units that is cut, 0-1.

    Returns:
        (units that stay,) indices, ascending.
    """
    stay = max(min(dim.minimum, dim.size), round(dim.size * (1 - share)), 1)
    return scores.topk(stay).indices.sort().values


def prune_network(
    module: torch.nn.Module,
    config: Any,
    pruning_spec: PruningSpec,
    share: float,
) -> tuple[Any, dict[str, torch.Tensor]]:
    """Return the config of the smaller net, and its weights.

    A net built from that config and loaded with those weights computes what the old one computes
    with the lost units zeroed.

    Args:
        module: the net; unchanged.
        config: of the net.
        pruning_spec: of the net.
        share: of the units of each dimension that is cut, 0-1.
    """
    state = {name: value.detach().clone() for name, value in module.state_dict().items()}
    dims = list(pruning_spec.dims(module))
    stays = {dim.name: select(dim, score(dim, state), share) for dim in dims}
    for (name, axis), mask in _masks(dims, stays, state).items():
        indices = mask.nonzero().flatten()
        state[name] = state[name].index_select(axis, indices).contiguous()
    sizes = {name: len(units) for name, units in stays.items()}
    return pruning_spec.resize(config, sizes), state


def _masks(
    dims: Sequence[PrunableDim],
    stays: Mapping[str, torch.Tensor],
    state: Mapping[str, torch.Tensor],
) -> dict[tuple[str, int], torch.Tensor]:
    """Return which indices of each axis of a parameter stay.

    One axis may have several dimensions side by side, such as a head over concatenated parts.

    Args:
        dims: all dimensions.
        stays: name of a dimension -> units that stay.
        state: parameters by name.

    Returns:
        (parameter, axis) -> (size of the axis,) bool.
    """
    masks: dict[tuple[str, int], torch.Tensor] = {}
    for dim in dims:
        lost = torch.ones(dim.size, dtype=torch.bool)
        lost[stays[dim.name]] = False
        for name, axis, first, width in dim.slices:
            if (name, axis) not in masks:
                masks[name, axis] = torch.ones(state[name].shape[axis], dtype=torch.bool)
            masks[name, axis][first : first + dim.size * width] &= ~lost.repeat_interleave(width)
    return masks
