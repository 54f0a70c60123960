"""Classify by TextCNN: filters of several widths over token embeddings.

Each filter is pooled by its maximum over time (Kim 2014, arXiv:1408.5882).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import nn

from components.models.base import PrunableDim
from components.models.dropout import Dropout
from components.models.input_layers import InputLayer, by_token
from components.models.textcnn.config import TextCNNConfig


class TextCNN(nn.Module):
    """Network from token ids to logits.

    Args:
        config: widths.
        vocabulary: number of token ids. Id 0 is padding.
        outputs: number of logits.
    """

    def __init__(self, config: TextCNNConfig, vocabulary: int, outputs: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocabulary, config.width, padding_idx=0)
        self.convs = nn.ModuleList(
            nn.Conv1d(config.width, filters, kernel, padding=kernel - 1)
            for filters, kernel in zip(config.filters, config.kernels, strict=True)
        )
        self.dropout = Dropout(config.dropout)
        self.head = nn.Linear(sum(config.filters), outputs)

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Return logits (n, c) from ids (n, t) and mask (n, t), 1 where there is a token."""
        # (n, width, t). Padding is zero, as the convolutions' own padding is.
        x = (self.embed(ids) * mask.unsqueeze(-1)).transpose(1, 2)
        pooled = []
        for conv in self.convs:
            kernel: int = conv.kernel_size[0]  # type: ignore[index, assignment]
            activations = torch.relu(conv(x)) * self._has_token(mask, kernel)
            pooled.append(activations.amax(dim=2))  # (n, filters)
        logits: torch.Tensor = self.head(self.dropout(torch.cat(pooled, dim=1)))
        return logits

    def table(self) -> nn.Embedding:
        """Return the embedding of the token ids."""
        return self.embed

    def input_layers(self) -> Sequence[InputLayer]:
        """Return the embedding of the tokens."""
        return [InputLayer(self.embed, by_token)]

    @staticmethod
    def _has_token(mask: torch.Tensor, kernel: int) -> torch.Tensor:
        """Return (n, 1, t + kernel - 1), 1 for windows with a token in them.

        The activations of other windows would be their bias, and depend on the batch's length.
        """
        return nn.functional.pad(mask, (kernel - 1, 0), value=1.0).unsqueeze(1)


class TextCNNPruningSpec:
    """Pruning of filters, with their columns of the head."""

    def dims(self, module: nn.Module) -> Sequence[PrunableDim]:
        """Return one dimension per kernel size."""
        assert isinstance(module, TextCNN)
        result = []
        start = 0
        for i, conv in enumerate(module.convs):
            assert isinstance(conv, nn.Conv1d)
            size = conv.out_channels
            slices = [
                (f"convs.{i}.weight", 0, 0, 1),
                (f"convs.{i}.bias", 0, 0, 1),
                ("head.weight", 1, start, 1),
            ]
            result.append(PrunableDim(f"convs.{i}", size, slices, minimum=4))
            start += size
        return result

    def resize(self, config: TextCNNConfig, widths: Mapping[str, int]) -> TextCNNConfig:
        """Return the config with a number of filters per kernel."""
        channels = [widths.get(f"convs.{i}", size) for i, size in enumerate(config.filters)]
        return config.model_copy(update={"channels": channels})
