"""Number formats of a fit: what the hardware has is asked, never assumed."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

from components.core.errors import ParamsError

_START, _GROWS_EACH = (
    2.0**16,
    2000,
)  # loss scale of fp16 (Micikevicius et al. 2018, arXiv:1710.03740)
_WORTH = 128  # at 64 a Transformer's step took 167 ms in bf16 and 135 in fp32; a TextCNN's at 128 took 112 against 168
_TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def resolve(wanted: str, module: torch.nn.Module) -> str:
    """`auto` to the fastest format that trains safely here.

    Raises:
        ParamsError: the format is asked for by name, and the GPU has it not.
    """
    device = next(module.parameters()).device
    fast = _bf16(device)
    if wanted == "auto":
        if _convolves_fast(module, device):
            return "bf16"
        return (
            "bf16"
            if fast and (device.type == "cuda" or _width(module) >= _WORTH)
            else "fp16"
            if device.type == "cuda"
            else "fp32"
        )
    if wanted == "bf16" and device.type == "cuda" and not fast:
        raise ParamsError(
            "bf16 is not in this GPU's hardware",
            where="train.precision",
            remedy="set it to auto, fp16 or fp32",
        )
    return wanted


def _bf16(device: torch.device) -> bool:
    """Products of bfloat16 matrices are faster than those of float32: AMX on a CPU, Ampere and later on a GPU."""
    return (
        torch.cuda.is_bf16_supported(including_emulation=False)
        if device.type == "cuda"
        else bool(torch.cpu._is_amx_tile_supported())
    )


def _convolves_fast(module: torch.nn.Module, device: torch.device) -> bool:
    """Whether this CPU multiplies bfloat16 vectors (AVX-512) and the network is of 2-d convolutions.

    A step of a ConvNet of 32-64-128 channels on 28 x 28 took half as long as in fp32 on an AMD EPYC.
    """
    if device.type != "cpu" or not torch.cpu._is_avx512_bf16_supported():
        return False
    layers = [each for each in module.modules() if isinstance(each, torch.nn.Conv2d)]
    return len(layers) > 1


def _width(module: torch.nn.Module) -> float:
    """The median inner width of the products: narrow ones cost more in casts than they gain."""
    inner = [
        each.weight.numel() // len(each.weight)
        for each in module.modules()
        if isinstance(each, torch.nn.Linear | torch.nn.Conv1d | torch.nn.Conv2d)
    ]
    return statistics.median(inner) if inner else 0


class Precision:
    """How a fit computes: the context of the forward pass, and the scale of the loss that keeps small fp16 gradients from vanishing.

    Args:
        name: fp32, bf16 or fp16.
    """

    def __init__(self, name: str, device: torch.device) -> None:
        self.name, self._device = name, device
        self.scale = _START if name == "fp16" else 1.0
        self._finite = 0  # steps in a row

    def context(self) -> AbstractContextManager[Any]:
        """For the forward pass."""
        return (
            nullcontext()
            if self.name == "fp32"
            else torch.autocast(self._device.type, dtype=_TYPES[self.name])
        )

    def overflowed(self, finite: bool) -> bool:
        """Take note of a step's gradients. True: they were scaled too far, the step is to be left out; that is no fault of the learning."""
        if self.name != "fp16":
            return False
        if finite:
            self._finite += 1
            if self._finite % _GROWS_EACH == 0:
                self.scale *= 2
            return False
        self._finite, too_far = 0, self.scale > 1
        self.scale = max(1.0, self.scale / 2)
        return too_far

    def state(self) -> dict[str, Any]:
        """Plain values."""
        return {"scale": self.scale, "finite": self._finite}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from `state`."""
        self.scale, self._finite = state["scale"], state["finite"]
