"""TextCNN: filters of several widths over token embeddings, the maximum of each over time (Kim 2014, arXiv:1408.5882)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import nn

from components.models.base import PrunableDim
from components.models.dropout import Dropout
from components.models.textcnn.config import TextCNNConfig


class TextCNN(nn.Module):
    """Token ids to logits.

    Args:
        config: widths.
        vocabulary: number of token ids; id 0 is padding.
        outputs: classes.
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
        """Logits (n, c) from ids (n, t) and mask (n, t), 1 where there is a token."""
        x = (self.embed(ids) * mask.unsqueeze(-1)).transpose(
            1, 2
        )  # (n, width, t); padding is zero, like the convolutions' own
        pooled = [
            (torch.relu(conv(x)) * self._touches(mask, conv.kernel_size[0])).amax(dim=2)  # type: ignore[arg-type, index]
            for conv in self.convs
        ]  # each (n, filters)
        logits: torch.Tensor = self.head(self.dropout(torch.cat(pooled, dim=1)))  # (n, c)
        return logits

    @staticmethod
    def _touches(mask: torch.Tensor, kernel: int) -> torch.Tensor:
        """(n, 1, t + kernel - 1), 1 for windows with a token in them: others would answer by their bias, and so by the length of the batch."""
        return nn.functional.pad(mask, (kernel - 1, 0), value=1.0).unsqueeze(1)


class TextCNNPruningSpec:
    """Filters can go: with a filter goes its column of the head."""

    def dims(self, module: nn.Module) -> Sequence[PrunableDim]:
        """One Dim per kernel size."""
        assert isinstance(module, TextCNN)
        result, start = [], 0
        for i, conv in enumerate(module.convs):
            assert isinstance(conv, nn.Conv1d)
            size = conv.out_channels
            result.append(
                PrunableDim(
                    f"convs.{i}",
                    size,
                    [
                        (f"convs.{i}.weight", 0, 0, 1),
                        (f"convs.{i}.bias", 0, 0, 1),
                        ("head.weight", 1, start, 1),
                    ],
                    minimum=4,
                )
            )
            start += size
        return result

    def resize(self, config: TextCNNConfig, widths: Mapping[str, int]) -> TextCNNConfig:
        """Each kernel gets its own number of filters."""
        return config.model_copy(
            update={
                "channels": [
                    widths.get(f"convs.{i}", size) for i, size in enumerate(config.filters)
                ]
            }
        )
