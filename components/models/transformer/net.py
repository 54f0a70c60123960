"""Pre-norm Transformer encoder with rotary positions and a gated feed-forward, mean-pooled.

Vaswani et al. 2017 (arXiv:1706.03762); pre-norm: Xiong et al. 2020 (2002.04745); rotary positions: Su et al. 2021 (2104.09864);
gated feed-forward: Shazeer 2020 (2002.05202).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import nn
from torch.nn import functional as F

from components.models import attention, packing
from components.models.base import PrunableDim
from components.models.dropout import Dropout
from components.models.packing import PackedLayout
from components.models.transformer.config import TransformerConfig

Attend = Callable[
    [torch.Tensor, int], torch.Tensor
]  # queries, keys, values (..., 3 * heads * e) and heads -> (..., heads * e)


class Layer(nn.Module):
    """Attention and feed-forward, each behind a norm and around a residual."""

    def __init__(
        self, width: int, heads: int, per_head: int, feedforward: int, dropout: float
    ) -> None:
        super().__init__()
        self.heads, self.per_head = heads, per_head
        inner = heads * per_head
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.merge = (
            nn.Linear(width, 3 * inner, bias=False),
            nn.Linear(inner, width, bias=False),
        )
        self.gate, self.up = (
            nn.Linear(width, feedforward, bias=False),
            nn.Linear(width, feedforward, bias=False),
        )  # apart: half a wide output is slower to read
        self.down = nn.Linear(feedforward, width, bias=False)
        self.dropout = Dropout(dropout)

    def forward(self, x: torch.Tensor, attend: Attend) -> torch.Tensor:
        """x (..., width)."""
        x = x + self.dropout(self.merge(attend(self.qkv(self.norm1(x)), self.heads)))
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
        angles = torch.outer(
            torch.arange(max_length),
            10_000 ** (-torch.arange(0, config.per_head, 2) / config.per_head),
        )  # (t, e / 2)
        self.register_buffer("cos", angles.cos(), persistent=False)
        self.register_buffer("sin", angles.sin(), persistent=False)

    def forward(
        self,
        ids: torch.Tensor,
        mask: torch.Tensor | None = None,
        lengths: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Logits (n, c) from padded ids (n, t) and mask (n, t), 1 where there is a token; or from packed ids (t,) and lengths (n,)."""
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
        """The last layer: (n, t, width) of padded rows, (t, width) of packed ones."""
        size = ids.shape[1] if lengths is None else int(lengths.max())
        cos, sin = self.cos[:size], self.sin[:size]
        if lengths is not None:
            layout = PackedLayout(lengths)
            return self._encode(
                ids,
                lambda qkv, heads: attention.packed(
                    qkv, heads, cos.to(qkv.dtype), sin.to(qkv.dtype), layout
                ),
            )
        assert mask is not None
        attends = (mask > 0)[:, None, None, :]
        return self._encode(
            ids,
            lambda qkv, heads: attention.padded(
                qkv, heads, cos.to(qkv.dtype), sin.to(qkv.dtype), attends
            ),
        )

    def table(self) -> nn.Embedding:
        """Where ids become vectors."""
        return self.embed

    def _encode(self, ids: torch.Tensor, attend: Attend) -> torch.Tensor:
        """(..., width) from ids (...)."""
        x = self.dropout(self.embed(ids))
        if torch.is_autocast_enabled(x.device.type):
            x = x.to(
                torch.get_autocast_dtype(x.device.type)
            )  # the residual stream too, or each addition would widen it again
        for layer in self.layers:
            x = layer(x, attend)
        out: torch.Tensor = self.norm(x)
        return out


class TransformerPruningSpec:
    """Heads and hidden units can go, layer by layer; the residual width stays."""

    def dims(self, module: nn.Module) -> Sequence[PrunableDim]:
        """Two Dims per layer."""
        assert isinstance(module, Transformer)
        result = []
        for i, layer in enumerate(module.layers):
            assert isinstance(layer, Layer)
            name, e = f"layers.{i}", layer.per_head
            inner, wide = layer.heads * e, layer.down.in_features
            heads = [(f"{name}.qkv.weight", 0, part * inner, e) for part in range(3)] + [
                (f"{name}.merge.weight", 1, 0, e)
            ]
            hidden = [
                (f"{name}.gate.weight", 0, 0, 1),
                (f"{name}.up.weight", 0, 0, 1),
                (f"{name}.down.weight", 1, 0, 1),
            ]
            result += [
                PrunableDim(f"{name}.heads", layer.heads, heads),
                PrunableDim(f"{name}.feedforward", wide, hidden, minimum=8),
            ]
        return result

    def resize(self, config: TransformerConfig, widths: Mapping[str, int]) -> TransformerConfig:
        """Each layer gets its own number of heads and hidden units."""
        heads = [widths.get(f"layers.{i}.heads", size) for i, size in enumerate(config.heads_of)]
        feedforward = [
            widths.get(f"layers.{i}.feedforward", size)
            for i, size in enumerate(config.feedforward_of)
        ]
        return config.model_copy(
            update={"heads": heads, "feedforward": feedforward, "head_width": config.per_head}
        )
