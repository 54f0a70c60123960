"""A small convolutional network: blocks of convolution, batch norm and ReLU, pooled between (after LeCun et al. 1998; Ioffe and Szegedy 2015, arXiv:1502.03167)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import cast

import torch
from torch import nn

from components.models.base import PrunableDim
from components.models.convnet.config import ConvNetConfig
from components.models.dropout import Dropout


class ConvNet(nn.Module):
    """Pictures to logits.

    Args:
        config: widths.
        channels: of the picture, 1 or 3.
        size: side length in pixels.
        outputs: classes.
    """

    def __init__(self, config: ConvNetConfig, channels: int, size: int, outputs: int) -> None:
        super().__init__()
        depths = config.convolutions()
        widths: list[int] = []
        for width, depth in zip(config.channels, depths, strict=True):
            widths += [width] * depth
        self.convs = nn.ModuleList(
            nn.Conv2d(a, b, 3, padding=1) for a, b in pairwise([channels, *widths])
        )
        self.norms = nn.ModuleList(nn.BatchNorm2d(width) for width in widths)
        # Convolutions after which the picture is halved.
        self.halves = {sum(depths[: block + 1]) - 1 for block in range(len(depths) - 1)}
        self.size = size
        # Side of what the layer behind the convolutions sees.
        self.side = 1 if config.pooling == "average" else size // 2 ** len(self.halves)
        features = config.channels[-1] * self.side**2
        self.average = config.pooling == "average"
        self.hidden = nn.Linear(features, config.hidden) if config.hidden else None
        self.dropout = Dropout(config.dropout)
        self.head = nn.Linear(config.hidden or features, outputs)
        # Convolutions of a CPU are up to 1.4 times as fast on pixels that hold their channels together.
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Logits (n, c) from normalized pixels (n, channels, size, size)."""
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


class ConvNetPruningSpec:
    """Channels and hidden units can go, with their norm and the inputs of what follows."""

    def dims(self, module: nn.Module) -> Sequence[PrunableDim]:
        """One Dim per convolution and one for the hidden layer."""
        assert isinstance(module, ConvNet)
        result = []
        behind = "head.weight" if module.hidden is None else "hidden.weight"
        for i, conv in enumerate(module.convs):
            parts = ("weight", "bias", "running_mean", "running_var")
            norm = [(f"norms.{i}.{part}", 0, 0, 1) for part in parts]
            last = i == len(module.convs) - 1
            after = (behind, 1, 0, module.side**2) if last else (f"convs.{i + 1}.weight", 1, 0, 1)
            places = [(f"convs.{i}.weight", 0, 0, 1), (f"convs.{i}.bias", 0, 0, 1), *norm, after]
            width = cast(nn.Conv2d, conv).out_channels
            result.append(PrunableDim(f"convs.{i}", width, places, minimum=4))
        if module.hidden is not None:
            places = [
                ("hidden.weight", 0, 0, 1),
                ("hidden.bias", 0, 0, 1),
                ("head.weight", 1, 0, 1),
            ]
            result.append(PrunableDim("hidden", module.hidden.out_features, places, minimum=8))
        return result

    def resize(self, config: ConvNetConfig, widths: Mapping[str, int]) -> ConvNetConfig:
        """New numbers of channels and hidden units; convolutions of one block keep one width."""
        starts = [sum(config.convolutions()[:block]) for block in range(len(config.channels))]
        channels = [
            widths.get(f"convs.{start}", size)
            for start, size in zip(starts, config.channels, strict=True)
        ]
        hidden = widths.get("hidden", config.hidden)
        return config.model_copy(update={"channels": channels, "hidden": hidden})
