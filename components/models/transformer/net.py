"""Classify by a pre-norm Transformer encoder with rotary positions and a gated feed-forward.

The states are mean-pooled. Vaswani et al. 2017 (arXiv:1706.03762). Pre-norm: Xiong et al. 2020
(arXiv:2002.04745). Rotary positions: Su et al. 2021 (arXiv:2104.09864). Gated feed-forward:
Shazeer 2020 (arXiv:2002.05202).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import nn
from torch.nn import functional as F

from components.models import attention, packing
from components.models.base import PrunableDim
from components.models.dropout import Dropout
from components.models.input_layers import InputLayer, by_token
from components.models.packing import PackedLayout
from components.models.transformer.config import TransformerConfig

# Queries, keys, values (..., 3 * heads * e) and heads -> (..., heads * e).
Attend = Callable[[torch.Tensor, int], torch.Tensor]


class Layer(nn.Module):
    """Attention and feed-forward, each after a norm and added to the residual stream.

    Args:
        width: of the residual stream.
        heads: number of heads.
        per_head: width of a head.
        feedforward: hidden units of the feed-forward.
        dropout: probability that an element is dropped.
    """

    def __init__(
        self, width: int, heads: int, per_head: int, feedforward: int, dropout: float
    ) -> None:
        super().__init__()
        self.heads = heads
        self.per_head = per_head
        inner = heads * per_head
        self.norm1 = nn.LayerNorm(width)
        self.norm2 = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * inner, bias=False)
        self.merge = nn.Linear(inner, width, bias=False)
        # Two layers, because reading half of one wide output is slower.
        self.gate = nn.Linear(width, feedforward, bias=False)
        self.up = nn.Linear(width, feedforward, bias=False)
        self.down = nn.Linear(feedforward, width, bias=False)
        self.dropout = Dropout(dropout)

    def forward(self, x: torch.Tensor, attend: Attend) -> torch.Tensor:
        """Return the residual stream (..., width) after this layer, from x (..., width)."""
        attended = attend(self.qkv(self.norm1(x)), self.heads)
        x = x + self.dropout(self.merge(attended))
        y = self.norm2(x)
        hidden = F.silu(self.gate(y)) * self.up(y)
        out: torch.Tensor = x + self.dropout(self.down(hidden))
        return out


class Transformer(nn.Module):
    """Network from token ids to logits.

    Args:
        config: widths.
        vocabulary: number of token ids. Id 0 is padding.
        outputs: number of logits.
        max_length: tokens of the longest row.
    """

    cos: torch.Tensor
    sin: torch.Tensor

    def __init__(
        self, config: TransformerConfig, vocabulary: int, outputs: int, max_length: int
    ) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocabulary, config.width, padding_idx=0)
        nn.init.normal_(self.embed.weight, std=0.02)
        self.layers = nn.ModuleList(
            Layer(config.width, heads, config.per_head, feedforward, config.dropout)
            for heads, feedforward in zip(config.heads_of, config.feedforward_of, strict=True)
        )
        self.norm = nn.LayerNorm(config.width)
        self.dropout = Dropout(config.dropout)
        self.head = nn.Linear(config.width, outputs)
        frequencies = 10_000 ** (-torch.arange(0, config.per_head, 2) / config.per_head)
        angles = torch.outer(torch.arange(max_length), frequencies)  # (t, e / 2)
        self.register_buffer("cos", angles.cos(), persistent=False)
        self.register_buffer("sin", angles.sin(), persistent=False)

    def forward(
        self,
        ids: torch.Tensor,
        mask: torch.Tensor | None = None,
        lengths: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Return logits (n, c) of padded or packed rows.

        Args:
            ids: (n, t) padded, or (t,) packed.
            mask: (n, t), 1 where there is a token. Padded rows only.
            lengths: (n,) tokens of each row. Packed rows only.
        """
        x = self.states(ids, mask, lengths)
        if lengths is not None:
            pooled = packing.mean(x, PackedLayout(lengths))
        else:
            assert mask is not None
            weights = mask.unsqueeze(-1).to(x.dtype)  # (n, t, 1)
            pooled = (x * weights).sum(1) / weights.sum(1).clamp(min=1)
        logits: torch.Tensor = self.head(self.dropout(pooled))
        return logits

    def states(
        self,
        ids: torch.Tensor,
        mask: torch.Tensor | None = None,
        lengths: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Return the last layer: (n, t, width) of padded rows, (t, width) of packed ones.

        The arguments are those of `forward`.
        """
        size = ids.shape[1] if lengths is None else int(lengths.max())
        cos = self.cos[:size]
        sin = self.sin[:size]
        if lengths is not None:
            layout = PackedLayout(lengths)

            def attend_packed(qkv: torch.Tensor, heads: int) -> torch.Tensor:
                return attention.packed(
                    qkv,
                    heads,
                    cos.to(qkv.dtype),
                    sin.to(qkv.dtype),
                    layout,
                )

            return self._encode(ids, attend_packed)
        assert mask is not None
        is_token = (mask > 0)[:, None, None, :]

        def attend_padded(qkv: torch.Tensor, heads: int) -> torch.Tensor:
            return attention.padded(
                qkv,
                heads,
                cos.to(qkv.dtype),
                sin.to(qkv.dtype),
                is_token,
            )

        return self._encode(ids, attend_padded)

    def table(self) -> nn.Embedding:
        """Return the embedding of the token ids."""
        return self.embed

    def input_layers(self) -> Sequence[InputLayer]:
        """Return the embedding of the tokens."""
        return [InputLayer(self.embed, by_token)]

    def _encode(self, ids: torch.Tensor, attend: Attend) -> torch.Tensor:
        """Return the last layer (..., width) of ids (...)."""
        x = self.dropout(self.embed(ids))
        if torch.is_autocast_enabled(x.device.type):
            # The residual stream too. Otherwise each addition would return to fp32.
            x = x.to(torch.get_autocast_dtype(x.device.type))
        for layer in self.layers:
            x = layer(x, attend)
        out: torch.Tensor = self.norm(x)
        return out


class TransformerPruningSpec:
    """Pruning of layers, and of their heads and hidden units. The residual width stays."""

    def dims(self, module: nn.Module) -> Sequence[PrunableDim]:
        """Return the layers, and two dimensions of each.

        Args:
            module: a `Transformer`.
        """
        assert isinstance(module, Transformer)
        result = [PrunableDim("layers", len(module.layers), (), modules=True)]
        for i, layer in enumerate(module.layers):
            assert isinstance(layer, Layer)
            name = f"layers.{i}"
            per_head = layer.per_head
            inner = layer.heads * per_head
            # Queries, keys and values are one matrix.
            heads = [(f"{name}.qkv.weight", 0, part * inner, per_head) for part in range(3)]
            heads.append((f"{name}.merge.weight", 1, 0, per_head))
            hidden = [
                (f"{name}.gate.weight", 0, 0, 1),
                (f"{name}.up.weight", 0, 0, 1),
                (f"{name}.down.weight", 1, 0, 1),
            ]
            units = layer.down.in_features
            result.append(PrunableDim(f"{name}.heads", layer.heads, heads))
            result.append(PrunableDim(f"{name}.feedforward", units, hidden, minimum=8))
        return result

    def resize(self, config: TransformerConfig, widths: Mapping[str, int]) -> TransformerConfig:
        """Return the config with other numbers of layers, heads and hidden units.

        Args:
            config: of the network that was pruned.
            widths: name of a dimension -> its size. 0: its layer is dropped. A dimension that is
                missing stays.
        """
        heads = [widths.get(f"layers.{i}.heads", size) for i, size in enumerate(config.heads_of)]
        feedforward = [
            widths.get(f"layers.{i}.feedforward", size)
            for i, size in enumerate(config.feedforward_of)
        ]
        sizes = {
            "layers": len(heads) - heads.count(0),
            "heads": [size for size in heads if size],
            "feedforward": [size for size in feedforward if size],
        }
        return config.model_copy(update=sizes | {"head_width": config.per_head})
