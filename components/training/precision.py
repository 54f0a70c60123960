"""Choose and apply the number format of a fit. The hardware is asked for what it has."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch

from components.core.errors import ParamsError
from components.training.fake_int8 import FakeInt8

# Loss scale of fp16 (Micikevicius et al. 2018, arXiv:1710.03740), and the number of steps
# after which it doubles.
_INITIAL_SCALE = 2.0**16
_GROWTH_STEPS = 2000
# The least inner width at which bf16 pays on a CPU. At 64 a Transformer's step took 167 ms
# in bf16 and 135 ms in fp32. At 128 a TextCNN's step took 112 ms and 168 ms.
_LEAST_WIDTH = 128
_TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def resolve(wanted: str, module: torch.nn.Module) -> str:
    """Return a format, with `auto` resolved to the fastest that trains safely here.

    Args:
        wanted: auto, fp32, bf16 or fp16.
        module: the network, on its device.

    Raises:
        ParamsError: the format was set, and the GPU does not have it.
    """
    device = next(module.parameters()).device
    has_bf16 = _bf16(device)
    if wanted == "auto":
        return _fastest(module, device, has_bf16)
    if wanted == "bf16" and device.type == "cuda" and not has_bf16:
        raise ParamsError(
            "bf16 is not in this GPU's hardware",
            where="train.precision",
            remedy="set it to auto, fp16 or fp32",
        )
    return wanted


def _fastest(module: torch.nn.Module, device: torch.device, has_bf16: bool) -> str:
    """Return the fastest format that trains safely on a device."""
    if _convolves_fast(module, device):
        return "bf16"
    if has_bf16 and (device.type == "cuda" or _width(module) >= _LEAST_WIDTH):
        return "bf16"
    return "fp16" if device.type == "cuda" else "fp32"


def _bf16(device: torch.device) -> bool:
    """Return whether bfloat16 matrix products are faster than those of float32.

    On a CPU that needs AMX, on a GPU Ampere or later.
    """
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.cpu._is_amx_tile_supported())


def _convolves_fast(module: torch.nn.Module, device: torch.device) -> bool:
    """Return whether this CPU multiplies bfloat16 vectors and the network is a 2-d ConvNet.

    That needs AVX-512. A step of a ConvNet of 32-64-128 channels on 28 x 28 took half as
    long as in fp32 on an AMD EPYC.
    """
    if device.type != "cpu" or not torch.cpu._is_avx512_bf16_supported():
        return False
    layers = [layer for layer in module.modules() if isinstance(layer, torch.nn.Conv2d)]
    return len(layers) > 1


def _width(module: torch.nn.Module) -> float:
    """Return the median inner width of the products.

    Narrow products cost more in casts than they gain.
    """
    products = (torch.nn.Linear, torch.nn.Conv1d, torch.nn.Conv2d)
    widths = []
    for layer in module.modules():
        if isinstance(layer, products):
            widths.append(layer.weight.numel() // len(layer.weight))
    return statistics.median(widths) if widths else 0


class Precision:
    """The context of the forward pass, and the loss scale.

    The scale keeps small fp16 gradients from vanishing.

    Args:
        name: fp32, bf16 or fp16.
        device: of the network.

    Attributes:
        fake_int8: whether weights and inputs of products are rounded to int8 first.
    """

    def __init__(self, name: str, device: torch.device) -> None:
        self.name = name
        self.fake_int8 = False
        self._device = device
        self.scale = _INITIAL_SCALE if name == "fp16" else 1.0
        # Steps in a row with finite gradients.
        self._finite_steps = 0

    @contextmanager
    def context(self) -> Iterator[None]:
        """Return the context of the forward pass."""
        with ExitStack() as contexts:
            if self.name != "fp32":
                contexts.enter_context(torch.autocast(self._device.type, _TYPES[self.name]))
            if self.fake_int8:
                contexts.enter_context(FakeInt8())
            yield

    def overflowed(self, finite: bool) -> bool:
        """Adapt the scale after a step.

        Args:
            finite: whether the step's gradients are finite.

        Returns:
            Whether the scale was too large. Then the step must be skipped. That is no sign
            of divergence.
        """
        if self.name != "fp16":
            return False
        if finite:
            self._finite_steps += 1
            if self._finite_steps % _GROWTH_STEPS == 0:
                self.scale *= 2
            return False
        self._finite_steps = 0
        too_large = self.scale > 1
        self.scale = max(1.0, self.scale / 2)
        return too_large

    def state(self) -> dict[str, Any]:
        """Return the state as plain values."""
        return {"scale": self.scale, "finite": self._finite_steps}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from a state."""
        self.scale = state["scale"]
        self._finite_steps = state["finite"]
