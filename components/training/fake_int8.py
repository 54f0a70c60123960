"""Fit with the rounding of int8: quantization-aware training."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

_PRODUCTS = (torch.nn.functional.linear, torch.conv1d, torch.conv2d)
# Largest int8 of a weight, and of an input that begins at 0.
_MOST_WEIGHT = 127
_MOST_INPUT = 255
# Scales of tensors that are 0 everywhere.
_LEAST_SCALE = 1e-12


class FakeInt8(TorchFunctionMode):
    """Rounds weights and inputs of products, filters and tables to int8 while a block runs.

    They are rounded as `quantize.static` does (Jacob et al. 2018, arXiv:1712.05877): weights
    for each output, inputs with the range of their batch. Gradients pass the rounding unchanged
    where a number is in range (Bengio et al. 2013, arXiv:1308.3432).
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[Any],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Call a function of torch, with rounded arguments where it has an int8 form."""
        if func is torch.nn.functional.embedding:
            return _rounded_rows(func(*args, **(kwargs or {})), args[1])
        if func in _PRODUCTS:
            args = (_rounded_inputs(args[0]), _rounded_weights(args[1]), *args[2:])
        return func(*args, **(kwargs or {}))


def _rounded_weights(weights: torch.Tensor) -> torch.Tensor:
    """Return weights (outputs, ...) rounded with a scale for each output."""
    most = weights.detach().abs().flatten(1).amax(1)
    scales = (most / _MOST_WEIGHT).clamp(min=_LEAST_SCALE)
    zeros = torch.zeros_like(scales, dtype=torch.int32)
    return torch.fake_quantize_per_channel_affine(
        weights, scales, zeros, 0, -_MOST_WEIGHT, _MOST_WEIGHT
    )


def _rounded_rows(rows: torch.Tensor, table: torch.Tensor) -> torch.Tensor:
    """Return rows of a table rounded with one scale, that of the whole table."""
    scale = (table.detach().abs().amax() / _MOST_WEIGHT).clamp(min=_LEAST_SCALE)
    zero = torch.zeros((), dtype=torch.int32, device=table.device)
    return torch.fake_quantize_per_tensor_affine(rows, scale, zero, -_MOST_WEIGHT, _MOST_WEIGHT)


def _rounded_inputs(inputs: torch.Tensor) -> torch.Tensor:
    """Return inputs rounded to 256 steps from the smallest, or 0, to the largest of the batch."""
    values = inputs.float()
    low = values.detach().amin().clamp(max=0)
    high = values.detach().amax().clamp(min=0)
    scale = ((high - low) / _MOST_INPUT).clamp(min=_LEAST_SCALE)
    zero = (-low / scale).round().to(torch.int32)
    return torch.fake_quantize_per_tensor_affine(values, scale, zero, 0, _MOST_INPUT)
