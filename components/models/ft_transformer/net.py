"""Predict from a table by a Transformer over its columns.

Each feature becomes a token (Gorishniy et al. 2021, arXiv:2106.11959: FT-Transformer). The layers
are normalized before each part.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

import torch
from torch import nn
from torch.nn import functional as F

from components.models.base import PrunableDim
from components.models.dropout import Dropout
from components.models.feature_layout import CategoryEmbeddings, FeatureLayout
from components.models.ft_transformer.config import FTTransformerConfig
from components.models.input_layers import InputLayer


class FeatureTokens(nn.Module):
    """A token of each feature, after one that collects the answer.

    Args:
        layout: of the features.
        width: of a token.
    """

    def __init__(self, layout: FeatureLayout, width: int) -> None:
        super().__init__()
        self.layout = layout
        bound = width**-0.5
        self.answer = nn.Parameter(torch.empty(1, 1, width).uniform_(-bound, bound))
        self.weight = nn.Parameter(torch.empty(layout.numbers, width).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(layout.width, width).uniform_(-bound, bound))
        self.categories = CategoryEmbeddings(layout.categories, [width] * len(layout.categories))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return tokens (n, 1 + p + q, width) from features (n, p + q)."""
        numbers, categories = self.layout.split(features)
        tokens = [numbers[..., None] * self.weight]
        tokens += [embedded[:, None] for embedded in self.categories(categories)]
        answer = self.answer.expand(features.shape[0], -1, -1)
        return torch.cat([answer, torch.cat(tokens, dim=1) + self.bias], dim=1)


class TokenLayer(nn.Module):
    """Transformer layer: attention between the tokens, then a hidden layer on each.

    Args:
        width: of a token.
        heads: of the attention.
        hidden: units of the hidden layer.
        dropout: share of the hidden units that is dropped.
    """

    def __init__(self, width: int, heads: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.attention_norm = nn.LayerNorm(width)
        self.query_key_value = nn.Linear(width, 3 * width)
        self.mixed = nn.Linear(width, width)
        self.hidden_norm = nn.LayerNorm(width)
        self.hidden = nn.Linear(width, hidden)
        self.dropout = Dropout(dropout)
        self.output = nn.Linear(hidden, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return tokens (n, t, width) from tokens (n, t, width)."""
        count, tokens, width = x.shape
        joined = self.query_key_value(self.attention_norm(x))
        parts = joined.view(count, tokens, 3, self.heads, width // self.heads)
        query, key, value = parts.permute(2, 0, 3, 1, 4).unbind(0)  # (n, heads, t, e)
        attended = F.scaled_dot_product_attention(query, key, value)
        x = x + self.mixed(attended.transpose(1, 2).flatten(2))
        inner = F.gelu(self.hidden(self.hidden_norm(x)))
        result: torch.Tensor = x + self.output(self.dropout(inner))
        return result


class FTTransformer(nn.Module):
    """Network from the features of a row to outputs.

    Args:
        config: widths.
        layout: of the features.
        outputs: their number.
    """

    def __init__(self, config: FTTransformerConfig, layout: FeatureLayout, outputs: int) -> None:
        super().__init__()
        self.tokens = FeatureTokens(layout, config.width)
        self.layers = nn.ModuleList(
            TokenLayer(config.width, config.heads, hidden, config.dropout)
            for hidden in config.hidden_units()
        )
        self.norm = nn.LayerNorm(config.width)
        self.head = nn.Linear(config.width, outputs)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return outputs (n, d) from features (n, p + q)."""
        x = self.tokens(features)
        for layer in self.layers:
            x = layer(x)
        outputs: torch.Tensor = self.head(torch.relu(self.norm(x[:, 0])))
        return outputs

    def input_layers(self) -> Sequence[InputLayer]:
        """Return the tokens of the features."""
        return [InputLayer(self.tokens, _by_feature)]


def _by_feature(
    inputs: Mapping[str, torch.Tensor],  # noqa: ARG001
    contributions: torch.Tensor,
) -> torch.Tensor:
    """Return (n, p + q) contributions of features from those of tokens (n, 1 + p + q, width).

    The first token collects the answer, and is of no feature.
    """
    return contributions.sum(-1)[:, 1:]


class FTTransformerPruningSpec:
    """Pruning of the hidden units of the layers."""

    def dims(self, module: nn.Module) -> Sequence[PrunableDim]:
        """Return one dimension for each layer."""
        assert isinstance(module, FTTransformer)
        result = []
        for number, layer in enumerate(module.layers):
            name = f"layers.{number}.hidden"
            slices = [
                (f"{name}.weight", 0, 0, 1),
                (f"{name}.bias", 0, 0, 1),
                (f"layers.{number}.output.weight", 1, 0, 1),
            ]
            size = cast(TokenLayer, layer).hidden.out_features
            result.append(PrunableDim(name, size, slices, minimum=8))
        return result

    def resize(self, config: FTTransformerConfig, widths: Mapping[str, int]) -> FTTransformerConfig:
        """Return the config with numbers of hidden units."""
        units = enumerate(config.hidden_units())
        hidden = [widths.get(f"layers.{number}.hidden", size) for number, size in units]
        return config.model_copy(update={"hidden": hidden})
