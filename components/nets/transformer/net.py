"""Pre-norm Transformer encoder with rotary positions and a gated feed-forward, mean-pooled.

Vaswani et al. 2017 (arXiv:1706.03762); pre-norm: Xiong et al. 2020 (2002.04745); rotary positions: Su et al. 2021 (2104.09864);
gated feed-forward: Shazeer 2020 (2002.05202).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from components.nets import packed
from components.nets.attention import attention
from components.nets.base import Dim
from components.nets.dropout import Dropout
from components.nets.packed import Layout
from components.nets.transformer.config import TransformerConfig

Attend = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]


def rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Rotary positions: pairs of elements (..., e) turned by cos and sin (..., e / 2)."""
    if torch.is_grad_enabled() and x.requires_grad:
        turned: torch.Tensor = _Rotation.apply(x, cos, sin)  # type: ignore[no-untyped-call]
        return turned
    a, b = x.chunk(2, dim=-1)
    return torch.cat([a * cos - b * sin, a * sin + b * cos], dim=-1)


class _Rotation(torch.autograd.Function):
    """The same with half the passes over memory: the gradient of a turn is the turn back."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(cos, sin)
        return _turned(x, cos, sin)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        cos, sin = ctx.saved_tensors
        return _turned(gradients[0], cos, -sin), None, None


def _turned(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    out = torch.empty_like(x, memory_format=torch.contiguous_format)
    (a, b), (c, d) = x.chunk(2, dim=-1), out.chunk(2, dim=-1)
    torch.mul(a, cos, out=c).addcmul_(b, sin, value=-1)
    torch.mul(a, sin, out=d).addcmul_(b, cos)
    return out


class Layer(nn.Module):
    """Attention and feed-forward, each behind a norm and around a residual."""

    def __init__(self, width: int, heads: int, per_head: int, feedforward: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.per_head = heads, per_head
        inner = heads * per_head
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.merge = nn.Linear(width, 3 * inner, bias=False), nn.Linear(inner, width, bias=False)
        self.gate_up, self.down = nn.Linear(width, 2 * feedforward, bias=False), nn.Linear(feedforward, width, bias=False)
        self.dropout = Dropout(dropout)

    def forward(self, x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, attend: Attend) -> torch.Tensor:
        """x (..., width); cos and sin (..., 1, 1, e / 2); attend: query, key, value (..., heads, e) -> (..., heads, e)."""
        inner = self.heads * self.per_head
        qk, v = self.qkv(self.norm1(x)).split([2 * inner, inner], dim=-1)
        q, k = rotate(qk.unflatten(-1, (2, self.heads, self.per_head)), cos, sin).unbind(-3)  # (..., heads, e)
        attended = attend(q, k, v.unflatten(-1, (self.heads, self.per_head)))
        x = x + self.dropout(self.merge(attended.flatten(-2)))
        gate, up = self.gate_up(self.norm2(x)).chunk(2, dim=-1)  # (..., feedforward)
        out: torch.Tensor = x + self.dropout(self.down(F.silu(gate) * up))
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
        self.dropout = Dropout(config.dropout)
        self.head = nn.Linear(config.width, outputs)
        angles = torch.outer(torch.arange(max_length), 10_000 ** (-torch.arange(0, config.per_head, 2) / config.per_head))  # (t, e / 2)
        self.register_buffer("cos", angles.cos(), persistent=False)
        self.register_buffer("sin", angles.sin(), persistent=False)

    def forward(self, ids: torch.Tensor, mask: torch.Tensor | None = None, lengths: torch.Tensor | None = None) -> torch.Tensor:
        """Logits (n, c) from padded ids (n, t) and mask (n, t), 1 where there is a token; or from packed ids (t,) and lengths (n,)."""
        if lengths is not None:
            return self._packed(ids, Layout(lengths))
        assert mask is not None
        attends = (mask > 0)[:, None, None, :]

        def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
            return attention(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), attends).transpose(1, 2)

        size = ids.shape[1]
        x = self._encode(ids, self.cos[:size, None, None], self.sin[:size, None, None], attend)  # (n, t, width)
        weights = mask.unsqueeze(-1).to(x.dtype)  # (n, t, 1)
        logits: torch.Tensor = self.head(self.dropout((x * weights).sum(1) / weights.sum(1).clamp(min=1)))
        return logits

    def _packed(self, ids: torch.Tensor, layout: Layout) -> torch.Tensor:
        place = layout.position
        x = self._encode(ids, self.cos[place, None, None], self.sin[place, None, None], lambda q, k, v: packed.attend(q, k, v, layout))  # (t, width)
        logits: torch.Tensor = self.head(self.dropout(packed.mean(x, layout)))
        return logits

    def _encode(self, ids: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, attend: Attend) -> torch.Tensor:
        """(..., width) from ids (...)."""
        x = self.dropout(self.embed(ids))
        if torch.is_autocast_enabled(x.device.type):
            x = x.to(torch.get_autocast_dtype(x.device.type))  # the residual stream too, or each addition would widen it again
        cos, sin = cos.to(x.dtype), sin.to(x.dtype)
        for layer in self.layers:
            x = layer(x, cos, sin, attend)
        out: torch.Tensor = self.norm(x)
        return out


class TransformerSurgery:
    """Heads and hidden units can go, layer by layer; the residual width stays."""

    def dims(self, module: nn.Module) -> Sequence[Dim]:
        """Two Dims per layer."""
        assert isinstance(module, Transformer)
        result = []
        for i, layer in enumerate(module.layers):
            assert isinstance(layer, Layer)
            name, e = f"layers.{i}", layer.per_head
            inner, wide = layer.heads * e, layer.down.in_features
            heads = [(f"{name}.qkv.weight", 0, part * inner, e) for part in range(3)] + [(f"{name}.merge.weight", 1, 0, e)]
            hidden = [(f"{name}.gate_up.weight", 0, 0, 1), (f"{name}.gate_up.weight", 0, wide, 1), (f"{name}.down.weight", 1, 0, 1)]
            result += [Dim(f"{name}.heads", layer.heads, heads), Dim(f"{name}.feedforward", wide, hidden, minimum=8)]
        return result

    def resize(self, config: TransformerConfig, widths: Mapping[str, int]) -> TransformerConfig:
        """Each layer gets its own number of heads and hidden units."""
        heads = [widths.get(f"layers.{i}.heads", size) for i, size in enumerate(config.heads_of)]
        feedforward = [widths.get(f"layers.{i}.feedforward", size) for i, size in enumerate(config.feedforward_of)]
        return config.model_copy(update={"heads": heads, "feedforward": feedforward, "head_width": config.per_head})
