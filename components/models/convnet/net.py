"""Classify images by a small convolutional network.

Its blocks are convolution, batch norm and ReLU, with pooling between them (after LeCun et al.
1998; Ioffe and Szegedy 2015, arXiv:1502.03167).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import cast

import torch
from torch import nn

from components.models.base import PrunableDim
from components.models.convnet.config import ConvNetConfig
from components.models.dropout import Dropout
from components.models.input_layers import InputLayer


class ConvNet(nn.Module):
    """Network from images to logits.

    Args:
        config: widths.
        channels: of the image, 1 or 3.
        size: side length in pixels.
        outputs: number of logits.
    """

    def __init__(self, config: ConvNetConfig, channels: int, size: int, outputs: int) -> None:
        super().__init__()
        depths = config.convolutions()
        widths: list[int] = []
        for width, depth in zip(config.channels, depths, strict=True):
            widths += [width] * depth
        self.convs = nn.ModuleList(
            nn.Conv2d(inputs, filters, 3, padding=1)
            for inputs, filters in pairwise([channels, *widths])
        )
        self.norms = nn.ModuleList(nn.BatchNorm2d(width) for width in widths)
        # Convolutions after which the image is halved.
        self.halves = {sum(depths[: block + 1]) - 1 for block in range(len(depths) - 1)}
        self.size = size
        self.average = config.pooling == "average"
        # Side length of the features after the convolutions, in pixels.
        self.side = 1 if self.average else size // 2 ** len(self.halves)
        features = config.channels[-1] * self.side**2
        self.hidden = nn.Linear(features, config.hidden) if config.hidden else None
        self.dropout = Dropout(config.dropout)
        self.head = nn.Linear(config.hidden or features, outputs)
        # With channels last, convolutions on a CPU are up to 1.4 times as fast.
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return logits (n, c) from normalized pixels (n, channels, size, size)."""
        x = pixels
        for i, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
            x = torch.relu(norm(conv(x)))
            if i in self.halves:
                x = nn.functional.max_pool2d(x, 2)
        x = x.mean((2, 3)) if self.average else x.flatten(1)
        if self.hidden is not None:
            x = torch.relu(self.hidden(x))
        logits: torch.Tensor = self.head(self.dropout(x))
        return logits

    def input_layers(self) -> Sequence[InputLayer]:
        """Return the pixels, as the first convolution takes them."""
        return [InputLayer(self.convs[0], _by_pixel, before=True)]


def _by_pixel(
    inputs: Mapping[str, torch.Tensor],  # noqa: ARG001
    contributions: torch.Tensor,
) -> torch.Tensor:
    """Return (n, height, width) contributions from those of channels (n, c, height, width)."""
    return contributions.sum(1)


class ConvNetPruningSpec:
    """Pruning of channels and hidden units, with their norms and the inputs of the next layer."""

    def dims(self, module: nn.Module) -> Sequence[PrunableDim]:
        """Return one dimension per convolution and one for the hidden layer."""
        assert isinstance(module, ConvNet)
        result = []
        after_convs = "head.weight" if module.hidden is None else "hidden.weight"
        for i, conv in enumerate(module.convs):
            parts = ("weight", "bias", "running_mean", "running_var")
            norm = [(f"norms.{i}.{part}", 0, 0, 1) for part in parts]
            if i == len(module.convs) - 1:
                reader = (after_convs, 1, 0, module.side**2)
            else:
                reader = (f"convs.{i + 1}.weight", 1, 0, 1)
            weight = (f"convs.{i}.weight", 0, 0, 1)
            bias = (f"convs.{i}.bias", 0, 0, 1)
            width = cast(nn.Conv2d, conv).out_channels
            slices = [weight, bias, *norm, reader]
            # All convolutions of a block have one width.
            block = sum(half < i for half in module.halves)
            result.append(
                PrunableDim(f"convs.{i}", width, slices, minimum=4, group=f"block.{block}")
            )
        if module.hidden is not None:
            slices = [
                ("hidden.weight", 0, 0, 1),
                ("hidden.bias", 0, 0, 1),
                ("head.weight", 1, 0, 1),
            ]
            result.append(PrunableDim("hidden", module.hidden.out_features, slices, minimum=8))
        return result

    def resize(self, config: ConvNetConfig, widths: Mapping[str, int]) -> ConvNetConfig:
        """Return the config with numbers of channels and hidden units.

        All convolutions of a block have one width.
        """
        convolutions = config.convolutions()
        channels = []
        for block, size in enumerate(config.channels):
            start = sum(convolutions[:block])
            channels.append(widths.get(f"convs.{start}", size))
        hidden = widths.get("hidden", config.hidden)
        return config.model_copy(update={"channels": channels, "hidden": hidden})
