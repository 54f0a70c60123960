"""Scaled dot-product attention (Vaswani et al. 2017, eq. 1), by whichever kernel is fast for the device and the number format."""

from __future__ import annotations

import torch
from torch.nn import functional as F

_LONGEST = 1024  # beyond it the scores of all pairs are too much to keep


def attention(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
    """softmax(q k' / sqrt(e)) v.

    torch's fused kernel is slow backward in bf16 on a CPU: three to fourteen times the plain products, which AMX multiplies (benchmarks/attention.py).

    Args:
        query, key, value: (n, heads, t, e).
        mask: (n, 1, 1, t), true where there is a token.
    """
    if query.dtype is torch.bfloat16 and query.device.type == "cpu" and torch.is_grad_enabled() and query.shape[-2] <= _LONGEST and mask is None:
        with torch.autocast("cpu", enabled=False):
            scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2)  # (n, heads, t, t)
            mixed: torch.Tensor = scores.softmax(-1) @ value  # the sums of a softmax in bf16 are made in fp32
            return mixed
    return F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
