"""Dropout (Srivastava et al. 2014) that does not wait for its random numbers."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

_WHOLE = {
    torch.float32: torch.int32,
    torch.bfloat16: torch.int16,
    torch.float16: torch.int16,
}  # of the same size


class Dropout(nn.Module):
    """Zeroes a share of the elements while training and scales up the rest.

    On a CPU torch draws a number per element, a tenth of a small Transformer's step; here one draw decides eight elements, by a byte each. The
    share is then a multiple of 1/256, and the scale is right for it (in the format of x).

    Args:
        share: of the elements that are zeroed.
    """

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x of any shape."""
        lost = min(255, round(self.share * 256))
        if not self.training or not lost:
            return x
        if x.device.type != "cpu" or x.dtype not in _WHOLE:
            return F.dropout(x, self.share)
        return x * _mask(x, lost)


def _mask(x: torch.Tensor, lost: int) -> torch.Tensor:
    """Zeros and scales in the shape of x, by whole-number arithmetic on their bits: comparing and converting takes four times as long."""
    whole = _WHOLE[x.dtype]
    draws = torch.empty(-(-x.numel() // 8), dtype=torch.int64).random_(
        -(2**63), None
    )  # to the largest int64
    bits = draws.view(torch.uint8)[: x.numel()].view(x.shape).to(whole)
    bits.sub_(256 - lost).bitwise_right_shift_(
        torch.iinfo(whole).bits - 1
    )  # all ones where the draw was less, else zero
    scale = torch.tensor(256 / (256 - lost), dtype=x.dtype).view(whole)
    return bits.bitwise_and_(scale).view(x.dtype)
