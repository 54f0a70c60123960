"""Self-attention with rotary positions, over padded rows and over rows laid end to end.

Vaswani et al. 2017 (arXiv:1706.03762, eq. 1); rotary positions: Su et al. 2021 (arXiv:2104.09864).
"""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional as F

from components.models.packing import PackedLayout


def rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Rotary positions: pairs of elements (..., e) turned by cos and sin (..., e / 2)."""
    a, b = x.chunk(2, dim=-1)
    return torch.cat([a * cos - b * sin, a * sin + b * cos], dim=-1)


def padded(
    qkv: torch.Tensor, heads: int, cos: torch.Tensor, sin: torch.Tensor, mask: torch.Tensor
) -> torch.Tensor:
    """Attention over padded rows.

    Args:
        qkv: (n, t, 3 * heads * e): queries, keys, values.
        cos, sin: (t, e / 2).
        mask: (n, 1, 1, t), true where there is a token.

    Returns:
        (n, t, heads * e).
    """
    parts = qkv.view(*qkv.shape[:2], 3, heads, -1).permute(0, 2, 3, 1, 4)  # (n, 3, heads, t, e)
    q, k = rotate(parts[:, :2], cos, sin).unbind(1)
    return (
        F.scaled_dot_product_attention(q, k, parts[:, 2], attn_mask=mask).transpose(1, 2).flatten(2)
    )


def packed(
    qkv: torch.Tensor, heads: int, cos: torch.Tensor, sin: torch.Tensor, layout: PackedLayout
) -> torch.Tensor:
    """Attention within each row of rows laid end to end: block-diagonal, and no block is padded.

    On a GPU in half precision one kernel does all rows (FlashAttention's variable-length form, Dao 2023, arXiv:2307.08691); elsewhere see `_Runs`.

    Args:
        qkv: (t, 3 * heads * e): queries, keys, values.
        cos, sin: (longest row, e / 2).

    Returns:
        (t, heads * e).
    """
    if qkv.is_cuda and qkv.dtype in (torch.float16, torch.bfloat16):
        from torch.nn.attention.varlen import varlen_attn

        parts = qkv.view(len(qkv), 3, heads, -1)  # (t, 3, heads, e)
        place, longest = layout.position, max(layout.sizes)
        q, k = rotate(parts[:, :2], cos[place, None, None], sin[place, None, None]).unbind(1)
        out: torch.Tensor = varlen_attn(
            q, k, parts[:, 2], layout.starts, layout.starts, longest, longest
        )  # type: ignore[assignment]
        return out.flatten(1)
    runs: torch.Tensor = _Runs.apply(qkv, heads, cos, sin, layout.runs)  # type: ignore[no-untyped-call]
    return runs


class _Runs(torch.autograd.Function):
    """Attention over runs of rows of equal length, which are plain views (rows, length, ...) of the packed tensor: no mask, no padding.

    By hand, because torch's fused kernel takes two to ten times as long forward and backward in bf16 on a CPU as the plain products, which AMX
    multiplies; and so that what surrounds them (turning, splitting, transposing) writes each tensor once, where it is needed.
    """

    @staticmethod
    def forward(
        ctx: Any,
        qkv: torch.Tensor,
        heads: int,
        cos: torch.Tensor,
        sin: torch.Tensor,
        runs: list[tuple[int, int, int]],
    ) -> torch.Tensor:
        out = qkv.new_empty(qkv.shape[0], qkv.shape[1] // 3)
        kept: list[torch.Tensor] = []
        scale = (out.shape[1] // heads) ** -0.5
        for start, rows, length in runs:
            q, k, v = _heads(qkv, heads, start, rows, length)  # (rows, heads, length, e)
            c, s = cos[:length], sin[:length]
            q, k, v = (
                _turned(
                    q,
                    c * scale,
                    s * scale,
                    torch.empty_like(q, memory_format=torch.contiguous_format),
                ),
                _turned(k, c, s, torch.empty_like(k, memory_format=torch.contiguous_format)),
                v.contiguous(),
            )
            weights = (q @ k.transpose(-1, -2)).softmax(
                -1
            )  # (rows, heads, length, length); the sums of a softmax in bf16 are made in fp32
            out[start : start + rows * length].view(rows, length, heads, -1).copy_(
                (weights @ v).transpose(1, 2)
            )
            kept += [q, k, v, weights]
        ctx.save_for_backward(cos, sin, *kept)
        ctx.heads, ctx.runs, ctx.width = heads, runs, qkv.shape[1]
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None, None, None, None]:
        (gradient,), (cos, sin, *kept), heads = gradients, ctx.saved_tensors, ctx.heads
        given = gradient.new_empty(gradient.shape[0], ctx.width)
        scale = (gradient.shape[1] // heads) ** -0.5
        for number, (start, rows, length) in enumerate(ctx.runs):
            q, k, v, weights = kept[4 * number : 4 * number + 4]
            of_out = (
                gradient[start : start + rows * length]
                .view(rows, length, heads, -1)
                .transpose(1, 2)
                .contiguous()
            )  # (rows, heads, length, e)
            of_scores = torch._softmax_backward_data(
                of_out @ v.transpose(-1, -2), weights, -1, weights.dtype
            )
            to_q, to_k, to_v = _heads(given, heads, start, rows, length)
            c, s = cos[:length], -sin[:length]  # the gradient of a turn is the turn back
            _turned(of_scores @ k, c * scale, s * scale, to_q)
            _turned(of_scores.transpose(-1, -2) @ q, c, s, to_k)
            to_v.copy_(weights.transpose(-1, -2) @ of_out)
        return given, None, None, None, None


def _heads(
    qkv: torch.Tensor, heads: int, start: int, rows: int, length: int
) -> tuple[torch.Tensor, ...]:
    """Queries, keys and values of a run, as views (rows, heads, length, e)."""
    return (
        qkv[start : start + rows * length]
        .view(rows, length, 3, heads, -1)
        .permute(2, 0, 3, 1, 4)
        .unbind(0)
    )


def _turned(
    x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, out: torch.Tensor
) -> torch.Tensor:
    """`rotate` into a tensor that is there."""
    (a, b), (c, d) = x.chunk(2, dim=-1), out.chunk(2, dim=-1)
    torch.mul(a, cos, out=c).addcmul_(b, sin, value=-1)
    torch.mul(a, sin, out=d).addcmul_(b, cos)
    return out
