"""Structured pruning: score units, select, cut. What is coupled to what, only the net's surgery knows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from components.models.base import PrunableDim, PruningSpec


def score(dim: PrunableDim, state: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """(units,) group L2 norm over all places that go with a unit (Fang et al. 2023, arXiv:2301.12900), running statistics left out."""
    total = torch.zeros(dim.size)
    for name, axis, first, each in dim.slices:
        if not name.endswith(("running_mean", "running_var")):
            piece = (
                state[name]
                .narrow(axis, first, dim.size * each)
                .movedim(axis, 0)
                .reshape(dim.size, -1)
            )
            total += piece.float().pow(2).sum(1)
    return total.sqrt()


def select(dim: PrunableDim, scores: torch.Tensor, share: float) -> torch.Tensor:
    """Indices, ascending, of the units that stay: the strongest, at least the minimum."""
    stay = max(min(dim.minimum, dim.size), round(dim.size * (1 - share)), 1)
    return scores.topk(stay).indices.sort().values


def cut(
    module: torch.nn.Module, config: Any, surgery: PruningSpec, share: float
) -> tuple[Any, dict[str, torch.Tensor]]:
    """The config of the smaller net and its weights.

    A net built from that config and loaded with those weights computes what the old one computes with the lost units zeroed.

    Args:
        module: the net; unchanged.
        config: what built it.
        share: of the units of every dimension that goes.
    """
    state = {name: value.detach().clone() for name, value in module.state_dict().items()}
    dims = list(surgery.dims(module))
    stays = {dim.name: select(dim, score(dim, state), share) for dim in dims}
    keep: dict[
        tuple[str, int], torch.Tensor
    ] = {}  # (parameter, axis) -> indices; one axis may hold several dims side by side (a head over concatenated parts)
    for dim in dims:
        for name, axis, first, each in dim.slices:
            mask = keep.setdefault(
                (name, axis), torch.ones(state[name].shape[axis], dtype=torch.bool)
            )
            lost = torch.ones(dim.size, dtype=torch.bool)
            lost[stays[dim.name]] = False
            mask[first : first + dim.size * each] &= ~lost.repeat_interleave(each)
    for (name, axis), mask in keep.items():
        state[name] = state[name].index_select(axis, mask.nonzero().flatten()).contiguous()
    return surgery.resize(config, {name: len(stay) for name, stay in stays.items()}), state
