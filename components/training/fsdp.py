"""Shard a network with FSDP2.

Each worker holds a part of the weights, of their gradients and of the optimizer's state
(Rajbhandari et al. 2020, arXiv:1910.02054; Zhao et al. 2023, arXiv:2304.11277).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import nn


def shard(module: nn.Module, device: torch.device) -> nn.Module:
    """Shard a module over the workers. All of them have built the same one, on the CPU.

    Each child of `module.layers` is gathered while it computes, so that no device ever holds
    more than one of them whole. The other weights are gathered together.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(device.type, (dist.get_world_size(),))
    for block in getattr(module, "layers", []):
        fully_shard(block, mesh=mesh)
    # Without resharding, the module would keep the weights that validation gathered.
    # Those may be the averaged ones.
    fully_shard(module, mesh=mesh, reshard_after_forward=True)
    return module


def is_sharded(module: nn.Module) -> bool:
    """Return whether a module was sharded."""
    from torch.distributed.fsdp import FSDPModule

    return isinstance(module, FSDPModule)


def parts(tensors: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """Return this worker's part of each tensor. The parts share the tensors' memory."""
    from torch.distributed.tensor import DTensor

    result = []
    for tensor in tensors:
        if isinstance(tensor, DTensor):
            tensor = tensor.to_local()
        result.append(tensor)
    return result


def gather_full(tree: Any) -> Any:
    """Return a tree with its sharded tensors gathered on the first worker's CPU.

    All workers call it together, and tensors are gathered one after the other. The other
    workers get empty tensors.

    Args:
        tree: nested mappings and sequences of tensors and plain values.
    """
    from torch.distributed.tensor import DTensor

    if isinstance(tree, DTensor):
        full = tree.full_tensor()
        return full.detach().cpu() if dist.get_rank() == 0 else torch.empty(0)
    if isinstance(tree, Mapping):
        return {key: gather_full(value) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [gather_full(value) for value in tree]
    return tree


def shard_state(
    state: Mapping[str, Any], module: nn.Module, optimizers: Mapping[str, torch.optim.Optimizer]
) -> Mapping[str, Any]:
    """Return this worker's parts of a state.

    Args:
        state: as `TrainStep.state` returns it. It was gathered or never sharded, by any
            number of workers.
        module: the sharded module.
        optimizers: the optimizers of the module's parameters by name.
    """
    parameters = dict(module.named_parameters())
    sharded: dict[str, Any] = {
        "module": {
            name: _shard_like(value, parameters.get(name))
            for name, value in state["module"].items()
        },
        "optimisers": {
            name: _shard_optimizer_state(state["optimisers"][name], optimizer)
            for name, optimizer in optimizers.items()
        },
    }
    if "average" in state:
        trained = [p for p in module.parameters() if p.requires_grad]
        pairs = zip(state["average"]["means"], trained, strict=True)
        means = [_shard_like(mean, parameter) for mean, parameter in pairs]
        sharded["average"] = {**state["average"], "means": means}
    return {**state, **sharded}


def _shard_optimizer_state(
    state: Mapping[str, Any], optimizer: torch.optim.Optimizer
) -> dict[str, Any]:
    """Return an optimizer's state with its moments sharded as the parameters are."""
    order: list[torch.Tensor] = []
    for group in optimizer.param_groups:
        order += group["params"]
    moments = {}
    for number, values in state["state"].items():
        moments[number] = {key: _shard_like(value, order[number]) for key, value in values.items()}
    return {**state, "state": moments}


def _shard_like(value: Any, parameter: torch.Tensor | None) -> Any:
    """Return `value` sharded as `parameter` is, where it has the same shape."""
    from torch.distributed.tensor import DTensor, distribute_tensor

    if not isinstance(parameter, DTensor) or not isinstance(value, torch.Tensor):
        return value
    if value.shape != parameter.shape:
        return value
    return distribute_tensor(
        value.to(parameter.device), parameter.device_mesh, parameter.placements, src_data_rank=None
    )
