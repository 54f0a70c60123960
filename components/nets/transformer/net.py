"""Pre-norm Transformer encoder with rotary positions and a gated feed-forward, mean-pooled.

Vaswani et al. 2017 (arXiv:1706.03762); pre-norm: Xiong et al. 2020 (2002.04745); rotary positions: Su et al. 2021 (2104.09864);
gated feed-forward: Shazeer 2020 (2002.05202).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import nn
from torch.nn import functional as F

from components.nets.base import Dim
from components.nets.transformer.config import TransformerConfig


def rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Rotary positions: pairs of elements (n, h, t, e) turned by cos and sin (t, e / 2)."""
    a, b = x.chunk(2, dim=-1)
    return torch.cat([a * cos - b * sin, a * sin + b * cos], dim=-1)


class Layer(nn.Module):
    """Attention and feed-forward, each behind a norm and around a residual."""

    def __init__(self, width: int, heads: int, per_head: int, feedforward: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.per_head = heads, per_head
        inner = heads * per_head
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query, self.key, self.value = (nn.Linear(width, inner, bias=False) for _ in range(3))
        self.merge = nn.Linear(inner, width, bias=False)
        self.gate, self.up = nn.Linear(width, feedforward, bias=False), nn.Linear(width, feedforward, bias=False)
        self.down = nn.Linear(feedforward, width, bias=False)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: torch.Tensor, mask: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
        """x (n, t, width); mask (n, 1, 1, t), true where there is a token."""
        y = self.norm1(x)
        q, k, v = (part(y).unflatten(-1, (self.heads, self.per_head)).transpose(1, 2) for part in (self.query, self.key, self.value))  # (n, h, t, e)
        attended = F.scaled_dot_product_attention(rotate(q, cos, sin), rotate(k, cos, sin), v, attn_mask=mask)  # (n, h, t, e)
        x = x + self.dropout(self.merge(attended.transpose(1, 2).flatten(2)))
        y = self.norm2(x)
        out: torch.Tensor = x + self.dropout(self.down(F.silu(self.gate(y)) * self.up(y)))
        return out


class Transformer(nn.Module):
    """Token ids to logits.

    Args:
        config: widths.
        vocabulary: number of token ids; id 0 is padding.
        outputs: classes.
        max_length: tokens of the longest row.
    """

    cos: torch.Tensor
    sin: torch.Tensor

    def __init__(self, config: TransformerConfig, vocabulary: int, outputs: int, max_length: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocabulary, config.width, padding_idx=0)
        nn.init.normal_(self.embed.weight, std=0.02)
        self.layers = nn.ModuleList(Layer(config.width, heads, config.per_head, feedforward, config.dropout) for heads, feedforward in zip(config.heads_of, config.feedforward_of, strict=True))
        self.norm = nn.LayerNorm(config.width)
        self.dropout = nn.Dropout(config.dropout)
        self.head = nn.Linear(config.width, outputs)
        angles = torch.outer(torch.arange(max_length), 10_000 ** (-torch.arange(0, config.per_head, 2) / config.per_head))  # (t, e / 2)
        self.register_buffer("cos", angles.cos(), persistent=False)
        self.register_buffer("sin", angles.sin(), persistent=False)

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Logits (n, c) from ids (n, t) and mask (n, t), 1 where there is a token."""
        x = self.dropout(self.embed(ids))  # (n, t, width)
        cos, sin = self.cos[: ids.shape[1]], self.sin[: ids.shape[1]]
        attends = (mask > 0)[:, None, None, :]
        for layer in self.layers:
            x = layer(x, attends, cos, sin)
        weights = mask.unsqueeze(-1).to(x.dtype)  # (n, t, 1)
        mean = (self.norm(x) * weights).sum(1) / weights.sum(1).clamp(min=1)  # (n, width)
        logits: torch.Tensor = self.head(self.dropout(mean))
        return logits


class TransformerSurgery:
    """Heads and hidden units can go, layer by layer; the residual width stays."""

    def dims(self, module: nn.Module) -> Sequence[Dim]:
        """Two Dims per layer."""
        assert isinstance(module, Transformer)
        result = []
        for i, layer in enumerate(module.layers):
            assert isinstance(layer, Layer)
            name, e = f"layers.{i}", layer.per_head
            heads = [(f"{name}.{part}.weight", 0, 0, e) for part in ("query", "key", "value")] + [(f"{name}.merge.weight", 1, 0, e)]
            hidden = [(f"{name}.gate.weight", 0, 0, 1), (f"{name}.up.weight", 0, 0, 1), (f"{name}.down.weight", 1, 0, 1)]
            result += [Dim(f"{name}.heads", layer.heads, heads), Dim(f"{name}.feedforward", layer.gate.out_features, hidden, minimum=8)]
        return result

    def resize(self, config: TransformerConfig, widths: Mapping[str, int]) -> TransformerConfig:
        """Each layer gets its own number of heads and hidden units."""
        heads = [widths.get(f"layers.{i}.heads", size) for i, size in enumerate(config.heads_of)]
        feedforward = [widths.get(f"layers.{i}.feedforward", size) for i, size in enumerate(config.feedforward_of)]
        return config.model_copy(update={"heads": heads, "feedforward": feedforward, "head_width": config.per_head})
