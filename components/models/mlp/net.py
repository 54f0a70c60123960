"""Predict from a table by a multilayer perceptron with embeddings of numbers and categories.

Gorishniy et al. 2022 (arXiv:2203.05556).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import cast

import torch
from torch import nn

from components.models.base import PrunableDim
from components.models.dropout import Dropout
from components.models.feature_layout import FeatureLayout, FlatEmbedding
from components.models.input_layers import InputLayer
from components.models.mlp.config import MLPConfig


class MLP(nn.Module):
    """Network from the features of a row to outputs.

    Args:
        config: widths.
        layout: of the features.
        outputs: their number.
    """

    def __init__(self, config: MLPConfig, layout: FeatureLayout, outputs: int) -> None:
        super().__init__()
        self.embedding = FlatEmbedding(layout, config)
        widths = [self.embedding.width, *config.hidden]
        self.layers = nn.ModuleList(nn.Linear(one, other) for one, other in pairwise(widths))
        self.dropout = Dropout(config.dropout)
        self.head = nn.Linear(widths[-1], outputs)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return outputs (n, d) from features (n, p + q)."""
        x = self.embedding(features)
        for layer in self.layers:
            x = self.dropout(torch.relu(layer(x)))
        outputs: torch.Tensor = self.head(x)
        return outputs

    def input_layers(self) -> Sequence[InputLayer]:
        """Return the embedding of the features."""
        return [InputLayer(self.embedding, self.embedding.by_feature)]


class MLPPruningSpec:
    """Pruning of the hidden units."""

    def dims(self, module: nn.Module) -> Sequence[PrunableDim]:
        """Return one dimension for each hidden layer."""
        assert isinstance(module, MLP)
        result = []
        names = [f"layers.{number}" for number in range(len(module.layers))]
        for name, reader, layer in zip(names, [*names[1:], "head"], module.layers, strict=True):
            slices = [
                (f"{name}.weight", 0, 0, 1),
                (f"{name}.bias", 0, 0, 1),
                (f"{reader}.weight", 1, 0, 1),
            ]
            width = cast(nn.Linear, layer).out_features
            result.append(PrunableDim(name, width, slices, minimum=8))
        return result

    def resize(self, config: MLPConfig, widths: Mapping[str, int]) -> MLPConfig:
        """Return the config with numbers of hidden units."""
        hidden = [widths.get(f"layers.{i}", size) for i, size in enumerate(config.hidden)]
        return config.model_copy(update={"hidden": hidden})
