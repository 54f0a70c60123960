"""Structured pruning: score units, select and cut them.

Which parameters belong to a unit is known to the net's `PruningSpec` alone.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch

from components.models.base import PrunableDim, PruningSpec
from components.tasks.base import Batch, Learning

_STATISTICS = ("running_mean", "running_var")


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
        if name.endswith(_STATISTICS) or name in dim.unscored:
            continue
        total += (
            _per_unit(
                dim,
                state[name],
                axis,
                first,
                width,
            )
            .pow(2)
            .sum(1)
        )
    return total.sqrt()


def _per_unit(
    dim: PrunableDim, values: torch.Tensor, axis: int, first: int, width: int
) -> torch.Tensor:
    """Return the elements of a slice of a parameter as (units, elements)."""
    units = values.narrow(axis, first, dim.size * width)
    return units.movedim(axis, 0).reshape(dim.size, -1).float()


def gradient_scores(
    module: torch.nn.Module,
    dims: Sequence[PrunableDim],
    learning: Learning,
    batches: Iterable[Batch],
    kind: str = "taylor",
) -> dict[str, torch.Tensor]:
    """Return how much the loss changes without each unit, averaged over batches.

    taylor: the squared sum of weight times gradient over all parameters of a unit (Molchanov et al.
    2019, arXiv:1906.10771). fisher: the sum of their squares, which is the second-order change with
    a diagonal empirical Fisher matrix (LeCun et al. 1990, Optimal Brain Damage; Theis et al. 2018,
    arXiv:1801.05787). Scores of different dimensions compare.

    Args:
        module: the net, in evaluation mode.
        dims: its dimensions.
        learning: the task's loss.
        batches: train rows with their targets, at least one batch.
        kind: taylor or fisher.

    Returns:
        name of a dimension -> (units,)
    """
    parameters = _learning_parameters(module)
    scores = {dim.name: torch.zeros(dim.size) for dim in dims}
    count = 0
    for batch in batches:
        _backward(module, learning, batch)
        for dim in dims:
            products = _weight_times_gradient(dim, parameters)
            if kind == "taylor":
                scores[dim.name] += products.sum(1).pow(2)
            else:
                scores[dim.name] += products.pow(2).sum(1)
        count += 1
    module.zero_grad()
    module.requires_grad_(False)
    return {name: total / count for name, total in scores.items()}


def movement_scores(
    module: torch.nn.Module,
    dims: Sequence[PrunableDim],
    learning: Learning,
    batches: Iterable[Batch],
    learning_rate: float,
) -> dict[str, torch.Tensor]:
    """Return how much the weights of each unit grow while a copy of the net learns.

    It is the negative sum of weight times gradient over all steps (Sanh et al. 2020,
    arXiv:2005.07683). The steps are those of Adam.

    Args:
        module: the net; unchanged.
        dims: its dimensions.
        learning: the task's loss.
        batches: train rows with their targets, at least one batch.
        learning_rate: of the steps.

    Returns:
        name of a dimension -> (units,)
    """
    moving = copy.deepcopy(module)
    parameters = _learning_parameters(moving)
    optimizer = torch.optim.Adam(parameters.values(), lr=learning_rate)
    scores = {dim.name: torch.zeros(dim.size) for dim in dims}
    for batch in batches:
        _backward(moving, learning, batch)
        for dim in dims:
            scores[dim.name] -= _weight_times_gradient(dim, parameters).sum(1)
        optimizer.step()
    return scores


def _learning_parameters(module: torch.nn.Module) -> dict[str, torch.nn.Parameter]:
    """Return the parameters of a net by name, and let all of them have gradients."""
    parameters = {
        name: parameter
        for name, parameter in module.named_parameters()
        if parameter.is_floating_point()
    }
    for parameter in parameters.values():
        parameter.requires_grad_(True)
    return parameters


def _backward(module: torch.nn.Module, learning: Learning, batch: Batch) -> None:
    """Compute the gradients of the mean loss of a batch."""
    module.zero_grad()
    loss = learning.loss(module, batch, None)
    (loss.total / loss.count).backward()  # type: ignore[no-untyped-call]


def _weight_times_gradient(
    dim: PrunableDim, parameters: Mapping[str, torch.nn.Parameter]
) -> torch.Tensor:
    """Return weight times gradient of all parameters of the units as (units, elements)."""
    products = [torch.zeros(dim.size, 0)]
    for name, axis, first, width in dim.slices:
        parameter = parameters.get(name)
        if parameter is not None and parameter.grad is not None:
            product = parameter.detach() * parameter.grad
            products.append(_per_unit(dim, product, axis, first, width))
    return torch.cat(products, dim=1)


def dropped_losses(
    module: torch.nn.Module, dim: PrunableDim, learning: Learning, batches: Iterable[Batch]
) -> torch.Tensor:
    """Return the squared change of the loss without each module, averaged over batches.

    The modules that change it least are dropped first (Kim et al. 2024, arXiv:2402.02834). To
    first order it is what `gradient_scores` estimates, so the scores of modules and units compare.

    Args:
        module: the net, in evaluation mode.
        dim: a dimension of modules.
        learning: the task's loss.
        batches: train rows with their targets, at least one batch.

    Returns:
        (modules,)
    """
    modules = [module.get_submodule(f"{dim.name}.{unit}") for unit in range(dim.size)]
    changes = []
    with torch.no_grad():
        for batch in batches:
            before = _mean_loss(module, learning, batch)
            change = []
            for dropped in modules:
                handle = dropped.register_forward_hook(_pass_through)
                try:
                    change.append(_mean_loss(module, learning, batch) - before)
                finally:
                    handle.remove()
            changes.append(change)
    return torch.tensor(changes).pow(2).mean(0)


def _pass_through(module: torch.nn.Module, inputs: Any, outputs: Any) -> Any:  # noqa: ARG001
    """Return the residual stream as it came in, in place of the output of a module."""
    if isinstance(outputs, tuple):
        return (inputs[0], *outputs[1:])
    return inputs[0]


def _mean_loss(module: torch.nn.Module, learning: Learning, batch: Batch) -> float:
    loss = learning.loss(module, batch, None)
    return float(loss.total / loss.count)


def select(dim: PrunableDim, scores: torch.Tensor, share: float, multiple: int = 1) -> torch.Tensor:
    """Return the units that stay: the ones with the highest scores, at least the minimum.

    Args:
        dim: the dimension.
        scores: (units,)
        share: of the units that is cut, 0-1.
        multiple: the elements that stay are the nearest multiple of it. A dimension without a cut,
            or with no more elements than that, is left out.

    Returns:
        (units that stay,) indices, ascending.
    """
    return scores.topk(units_that_stay(dim, share, multiple)).indices.sort().values


def units_that_stay(dim: PrunableDim, share: float, multiple: int = 1) -> int:
    """Return how many units of a dimension stay after a cut, see `select`."""
    stay = dim.size * (1 - share)
    # A head, for example, has many elements. A unit has at least as many as its shortest slice.
    elements = min((width for _, _, _, width in dim.slices), default=multiple)
    step = multiple // math.gcd(multiple, elements)
    if share and dim.size > step:
        stay = max(1, round(stay / step)) * step
    return min(max(round(stay), dim.minimum, 1), dim.size)


def prune_network(
    module: torch.nn.Module,
    config: Any,
    pruning_spec: PruningSpec,
    share: float | Mapping[str, float],
    scores: Mapping[str, torch.Tensor] | None = None,
    multiple: int = 1,
) -> tuple[Any, dict[str, torch.Tensor]]:
    """Return the config of the smaller net, and its weights.

    A net built from that config and loaded with those weights computes what the old one computes
    with the lost units zeroed, and without the lost modules.

    Args:
        module: the net; unchanged.
        config: of the net.
        pruning_spec: of the net.
        share: of the units of each dimension that is cut, 0-1; or name of a dimension -> share.
            One number for all drops no modules.
        scores: name of a dimension -> (units,). The others have those of `score`.
        multiple: of the elements that stay, see `select`.
    """
    state = {name: value.detach().clone() for name, value in module.state_dict().items()}
    dims = list(pruning_spec.dims(module))
    if not isinstance(share, Mapping):
        share = {dim.name: share for dim in dims if not dim.modules}
    stays = {}
    for dim in dims:
        dim_scores = (scores or {}).get(dim.name)
        if dim_scores is None:
            dim_scores = score(dim, state)
        stays[dim.name] = select(dim, dim_scores, share.get(dim.name, 0.0), multiple)
    for (name, axis), mask in _masks(dims, stays, state).items():
        indices = mask.nonzero().flatten()
        state[name] = state[name].index_select(axis, indices).contiguous()
    sizes = {name: len(units) for name, units in stays.items()}
    for dim in dims:
        if dim.modules:
            renamed = {name: _new_name(name, dim, stays[dim.name].tolist()) for name in state}
            state = {new: state[name] for name, new in renamed.items() if new is not None}
            for name in sizes:
                if _new_name(name, dim, stays[dim.name].tolist()) is None:
                    sizes[name] = 0
    return pruning_spec.resize(config, sizes), state


def _new_name(name: str, dim: PrunableDim, stay: Sequence[int]) -> str | None:
    """Return the name of a parameter or a dimension after modules were dropped.

    Args:
        name: the name before.
        dim: a dimension of modules.
        stay: modules that stay, ascending.

    Returns:
        The name. None: it is in a module that was dropped.
    """
    unit = dim.unit_of(name)
    if unit is None:
        return name
    if unit not in stay:
        return None
    rest = name.removeprefix(f"{dim.name}.{unit}")
    return f"{dim.name}.{stay.index(unit)}{rest}"


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
