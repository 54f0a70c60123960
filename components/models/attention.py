"""Compute self-attention with rotary positions, over padded rows and over packed rows.

Vaswani et al. 2017 (arXiv:1706.03762, eq. 1). Rotary positions: Su et al. 2021
(arXiv:2104.09864).

Shapes: e is the width of a head, t the number of tokens.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional as F

from components.models.packing import PackedLayout


def rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Return a tensor whose pairs of elements are rotated by an angle each.

    Args:
        x: (..., e). Element i and element i + e / 2 are a pair.
        cos: (..., e / 2) cosines of the angles.
        sin: (..., e / 2) sines of the angles.

    Returns:
        (..., e).
    """
    a, b = x.chunk(2, dim=-1)
    return torch.cat([a * cos - b * sin, a * sin + b * cos], dim=-1)


def padded(
    qkv: torch.Tensor, heads: int, cos: torch.Tensor, sin: torch.Tensor, mask: torch.Tensor
) -> torch.Tensor:
    """Return attention over padded rows.

    Args:
        qkv: (n, t, 3 * heads * e): queries, keys, values.
        heads: number of heads.
        cos: (t, e / 2).
        sin: (t, e / 2).
        mask: (n, 1, 1, t), true where there is a token.

    Returns:
        (n, t, heads * e).
    """
    # (n, 3, heads, t, e)
    parts = qkv.view(*qkv.shape[:2], 3, heads, -1).permute(0, 2, 3, 1, 4)
    q, k = rotate(parts[:, :2], cos, sin).unbind(1)
    out = F.scaled_dot_product_attention(q, k, parts[:, 2], attn_mask=mask)
    return out.transpose(1, 2).flatten(2)


def packed(
    qkv: torch.Tensor, heads: int, cos: torch.Tensor, sin: torch.Tensor, layout: PackedLayout
) -> torch.Tensor:
    """Return attention within each packed row: block-diagonal, without padding.

    On a GPU in half precision one kernel computes all rows (FlashAttention's variable-length
    form, Dao 2023, arXiv:2307.08691). Elsewhere see `_RunAttention`.

    Args:
        qkv: (t, 3 * heads * e): queries, keys, values.
        heads: number of heads.
        cos: (longest row, e / 2).
        sin: (longest row, e / 2).
        layout: the rows of the batch.

    Returns:
        (t, heads * e).
    """
    if qkv.is_cuda and qkv.dtype in (torch.float16, torch.bfloat16):
        return _flash(qkv, heads, cos, sin, layout)
    out: torch.Tensor = _RunAttention.apply(  # type: ignore[no-untyped-call]
        qkv, heads, cos, sin, layout.runs
    )
    return out


def _flash(
    qkv: torch.Tensor, heads: int, cos: torch.Tensor, sin: torch.Tensor, layout: PackedLayout
) -> torch.Tensor:
    """Return attention as `packed` does, by the GPU's variable-length kernel.

    The arguments and the result have the shapes of `packed`.
    """
    from torch.nn.attention.varlen import varlen_attn

    parts = qkv.view(len(qkv), 3, heads, -1)  # (t, 3, heads, e)
    position = layout.position
    longest = max(layout.sizes)
    row_cos = cos[position, None, None]
    row_sin = sin[position, None, None]
    q, k = rotate(parts[:, :2], row_cos, row_sin).unbind(1)
    out: torch.Tensor = varlen_attn(
        q, k, parts[:, 2], layout.starts, layout.starts, longest, longest
    )  # type: ignore[assignment]
    return out.flatten(1)


class _RunAttention(torch.autograd.Function):
    """Attention over runs of rows of equal length.

    A run is a view (rows, length, ...) of the packed tensor, without mask and padding.

    The backward pass is written out, because torch's fused kernel takes two to ten times as
    long forward and backward in bf16 on a CPU as the plain products, which AMX computes. And
    the operations around the products (rotate, split, transpose) so write each tensor once,
    where it is needed.
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
        """Return attention (t, heads * e), and save what the backward pass needs.

        Args:
            ctx: of autograd.
            qkv: (t, 3 * heads * e): queries, keys, values.
            heads: number of heads.
            cos: (longest row, e / 2).
            sin: (longest row, e / 2).
            runs: (first token, rows, length of a row) of each run.
        """
        out = qkv.new_empty(qkv.shape[0], qkv.shape[1] // 3)
        saved: list[torch.Tensor] = []
        scale = (out.shape[1] // heads) ** -0.5
        for start, rows, length in runs:
            # (rows, heads, length, e)
            q, k, v = _split_heads(qkv, heads, start, rows, length)
            run_cos = cos[:length]
            run_sin = sin[:length]
            q_out = torch.empty_like(q, memory_format=torch.contiguous_format)
            q = _rotate_into(q, run_cos * scale, run_sin * scale, q_out)
            k_out = torch.empty_like(k, memory_format=torch.contiguous_format)
            k = _rotate_into(k, run_cos, run_sin, k_out)
            v = v.contiguous()
            # (rows, heads, length, length). A softmax in bf16 is summed in fp32.
            weights = (q @ k.transpose(-1, -2)).softmax(-1)
            run_out = out[start : start + rows * length].view(rows, length, heads, -1)
            run_out.copy_((weights @ v).transpose(1, 2))
            saved += [q, k, v, weights]
        ctx.save_for_backward(cos, sin, *saved)
        ctx.heads = heads
        ctx.runs = runs
        ctx.width = qkv.shape[1]
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None, None, None, None]:
        """Return the gradient of qkv (t, 3 * heads * e), and None for the other arguments."""
        (gradient,) = gradients
        cos, sin, *saved = ctx.saved_tensors
        heads = ctx.heads
        qkv_grad = gradient.new_empty(gradient.shape[0], ctx.width)
        scale = (gradient.shape[1] // heads) ** -0.5
        for number, (start, rows, length) in enumerate(ctx.runs):
            q, k, v, weights = saved[4 * number : 4 * number + 4]
            run_grad = gradient[start : start + rows * length].view(rows, length, heads, -1)
            out_grad = run_grad.transpose(1, 2).contiguous()  # (rows, heads, length, e)
            scores_grad = torch._softmax_backward_data(
                out_grad @ v.transpose(-1, -2), weights, -1, weights.dtype
            )
            q_grad, k_grad, v_grad = _split_heads(qkv_grad, heads, start, rows, length)
            # The gradient of a rotation is the rotation by the negative angle.
            run_cos = cos[:length]
            run_sin = -sin[:length]
            _rotate_into(scores_grad @ k, run_cos * scale, run_sin * scale, q_grad)
            _rotate_into(scores_grad.transpose(-1, -2) @ q, run_cos, run_sin, k_grad)
            v_grad.copy_(weights.transpose(-1, -2) @ out_grad)
        return qkv_grad, None, None, None, None


def _split_heads(
    qkv: torch.Tensor, heads: int, start: int, rows: int, length: int
) -> tuple[torch.Tensor, ...]:
    """Return queries, keys and values of a run, as views (rows, heads, length, e).

    Args:
        qkv: (t, 3 * heads * e).
        heads: number of heads.
        start: first token of the run.
        rows: rows of the run.
        length: tokens of each of its rows.
    """
    run = qkv[start : start + rows * length].view(rows, length, 3, heads, -1)
    return run.permute(2, 0, 3, 1, 4).unbind(0)


def _rotate_into(
    x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, out: torch.Tensor
) -> torch.Tensor:
    """Write the result of `rotate` into a tensor and return it.

    Args:
        x: (..., e).
        cos: (..., e / 2).
        sin: (..., e / 2).
        out: (..., e), which may be a view.
    """
    a, b = x.chunk(2, dim=-1)
    c, d = out.chunk(2, dim=-1)
    torch.mul(a, cos, out=c).addcmul_(b, sin, value=-1)
    torch.mul(a, sin, out=d).addcmul_(b, cos)
    return out
