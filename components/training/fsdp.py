"""FSDP2: each worker keeps a part of the weights, of their gradients and of the optimizer's state (Rajbhandari et al. 2020, arXiv:1910.02054; Zhao et al. 2023, 2304.11277)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import nn


def shard(module: nn.Module, device: torch.device) -> nn.Module:
    """Divide a module among the workers; all of them have built the same one, on the CPU.

    Each child of `module.layers` is gathered while it computes, so that no device ever holds more than one of them whole; the rest is gathered together.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(device.type, (dist.get_world_size(),))
    for block in getattr(module, "layers", []):
        fully_shard(block, mesh=mesh)
    fully_shard(
        module, mesh=mesh, reshard_after_forward=True
    )  # or its weights would stay as validation gathered them, which may be the averaged ones
    return module


def is_sharded(module: nn.Module) -> bool:
    """Whether `shard` was here."""
    from torch.distributed.fsdp import FSDPModule

    return isinstance(module, FSDPModule)


def parts(tensors: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """What this worker holds of each, sharing its memory."""
    from torch.distributed.tensor import DTensor

    return [each.to_local() if isinstance(each, DTensor) else each for each in tensors]


def whole(tree: Any) -> Any:
    """Sharded tensors gathered, one after the other, on the first worker's CPU; all workers ask together. The others get nothing that is worth keeping."""
    from torch.distributed.tensor import DTensor

    if isinstance(tree, DTensor):
        full = tree.full_tensor()
        return full.detach().cpu() if dist.get_rank() == 0 else torch.empty(0)
    if isinstance(tree, Mapping):
        return {key: whole(each) for key, each in tree.items()}
    return [whole(each) for each in tree] if isinstance(tree, list | tuple) else tree


def into(
    state: Mapping[str, Any], module: nn.Module, optimizers: Mapping[str, torch.optim.Optimizer]
) -> Mapping[str, Any]:
    """This worker's parts of a state that was gathered or never sharded, by any number of workers."""
    named = dict(module.named_parameters())
    kept = {
        "module": {name: _like(value, named.get(name)) for name, value in state["module"].items()},
        "optimisers": {},
    }
    for name, optimiser in optimizers.items():
        given = state["optimisers"][name]
        order = [p for group in optimiser.param_groups for p in group["params"]]
        moments = {
            number: {key: _like(value, order[number]) for key, value in each.items()}
            for number, each in given["state"].items()
        }
        kept["optimisers"][name] = {**given, "state": moments}
    if "average" in state:
        trained = [p for p in module.parameters() if p.requires_grad]
        means = [_like(mean, p) for mean, p in zip(state["average"]["means"], trained, strict=True)]
        kept["average"] = {**state["average"], "means": means}
    return {**state, **kept}


def _like(value: Any, parameter: torch.Tensor | None) -> Any:
    """`value` divided as `parameter` is, where it has its shape."""
    from torch.distributed.tensor import DTensor, distribute_tensor

    if (
        not isinstance(parameter, DTensor)
        or not isinstance(value, torch.Tensor)
        or value.shape != parameter.shape
    ):
        return value
    return distribute_tensor(
        value.to(parameter.device), parameter.device_mesh, parameter.placements, src_data_rank=None
    )
