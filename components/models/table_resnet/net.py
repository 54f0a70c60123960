"""Predict from a table by a residual network (Gorishniy et al. 2021, arXiv:2106.11959)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

import torch
from torch import nn

from components.models.base import PrunableDim
from components.models.dropout import Dropout
from components.models.feature_layout import FeatureLayout, FlatEmbedding
from components.models.input_layers import InputLayer
from components.models.table_resnet.config import TableResNetConfig


class ResidualBlock(nn.Module):
    """Residual block: norm, hidden layer, output layer, added to the input.

    Args:
        width: of the input and the output.
        hidden: units of the hidden layer.
        dropout: share of the hidden units that is dropped.
    """

    def __init__(self, width: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.hidden = nn.Linear(width, hidden)
        self.dropout = Dropout(dropout)
        self.output = nn.Linear(hidden, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return (n, width) from (n, width)."""
        inner = torch.relu(self.hidden(self.norm(x)))
        added: torch.Tensor = x + self.output(self.dropout(inner))
        return added


class TableResNet(nn.Module):
    """Network from the features of a row to outputs.

    Args:
        config: widths.
        layout: of the features.
        outputs: their number.
    """

    def __init__(self, config: TableResNetConfig, layout: FeatureLayout, outputs: int) -> None:
        super().__init__()
        self.embedding = FlatEmbedding(layout, config)
        self.first = nn.Linear(self.embedding.width, config.width)
        self.blocks = nn.ModuleList(
            ResidualBlock(config.width, hidden, config.dropout) for hidden in config.hidden_units()
        )
        self.norm = nn.LayerNorm(config.width)
        self.head = nn.Linear(config.width, outputs)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return outputs (n, d) from features (n, p + q)."""
        x = self.first(self.embedding(features))
        for block in self.blocks:
            x = block(x)
        outputs: torch.Tensor = self.head(torch.relu(self.norm(x)))
        return outputs

    def input_layers(self) -> Sequence[InputLayer]:
        """Return the embedding of the features."""
        return [InputLayer(self.embedding, self.embedding.by_feature)]


class TableResNetPruningSpec:
    """Pruning of the hidden units of the blocks."""

    def dims(self, module: nn.Module) -> Sequence[PrunableDim]:
        """Return one dimension for each block."""
        assert isinstance(module, TableResNet)
        result = []
        for number, block in enumerate(module.blocks):
            name = f"blocks.{number}"
            slices = [
                (f"{name}.hidden.weight", 0, 0, 1),
                (f"{name}.hidden.bias", 0, 0, 1),
                (f"{name}.output.weight", 1, 0, 1),
            ]
            size = cast(ResidualBlock, block).hidden.out_features
            result.append(PrunableDim(name, size, slices, minimum=8))
        return result

    def resize(self, config: TableResNetConfig, widths: Mapping[str, int]) -> TableResNetConfig:
        """Return the config with numbers of hidden units."""
        units = enumerate(config.hidden_units())
        hidden = [widths.get(f"blocks.{number}", size) for number, size in units]
        return config.model_copy(update={"hidden": hidden})
