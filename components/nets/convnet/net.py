"""A small convolutional network: blocks of convolution, batch norm and ReLU, pooled between (after LeCun et al. 1998; Ioffe and Szegedy 2015, arXiv:1502.03167)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import torch
from torch import nn

from components.nets.base import Dim
from components.nets.convnet.config import ConvNetConfig
from components.nets.dropout import Dropout


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
        widths = [channels, *config.channels]
        self.convs = nn.ModuleList(nn.Conv2d(a, b, 3, padding=1) for a, b in pairwise(widths))
        self.norms = nn.ModuleList(nn.BatchNorm2d(width) for width in config.channels)
        self.size = self.side = size
        for _ in config.channels[:-1]:
            self.side //= 2
        self.hidden = nn.Linear(config.channels[-1] * self.side * self.side, config.hidden)
        self.dropout = Dropout(config.dropout)
        self.head = nn.Linear(config.hidden, outputs)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Logits (n, c) from normalised pixels (n, channels, size, size)."""
        x = pixels
        for i, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
            x = torch.relu(norm(conv(x)))
            if i < len(self.convs) - 1:
                x = nn.functional.max_pool2d(x, 2)
        logits: torch.Tensor = self.head(self.dropout(torch.relu(self.hidden(x.flatten(1)))))
        return logits


class ConvNetSurgery:
    """Channels and hidden units can go, with their norm and the inputs of what follows."""

    def dims(self, module: nn.Module) -> Sequence[Dim]:
        """One Dim per block and one for the hidden layer."""
        assert isinstance(module, ConvNet)
        result = []
        for i, conv in enumerate(module.convs):
            norm = [(f"norms.{i}.{part}", 0, 0, 1) for part in ("weight", "bias", "running_mean", "running_var")]
            last = i == len(module.convs) - 1
            after = ("hidden.weight", 1, 0, module.side**2) if last else (f"convs.{i + 1}.weight", 1, 0, 1)
            result.append(Dim(f"convs.{i}", int(conv.out_channels), [(f"convs.{i}.weight", 0, 0, 1), (f"convs.{i}.bias", 0, 0, 1), *norm, after], minimum=4))  # type: ignore[arg-type]
        result.append(Dim("hidden", module.hidden.out_features, [("hidden.weight", 0, 0, 1), ("hidden.bias", 0, 0, 1), ("head.weight", 1, 0, 1)], minimum=8))
        return result

    def resize(self, config: ConvNetConfig, widths: Mapping[str, int]) -> ConvNetConfig:
        """New numbers of channels and hidden units."""
        channels = [widths.get(f"convs.{i}", size) for i, size in enumerate(config.channels)]
        return config.model_copy(update={"channels": channels, "hidden": widths.get("hidden", config.hidden)})
