"""Implement dropout (Srivastava et al. 2014) with fewer random draws on a CPU."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

# Integer types of the same size.
_INTEGERS = {
    torch.float32: torch.int32,
    torch.bfloat16: torch.int16,
    torch.float16: torch.int16,
}


class Dropout(nn.Module):
    """Zeroes a share of the elements while training and scales up the rest.

    On a CPU torch draws a number per element, which takes a tenth of a small Transformer's
    step. Here one draw decides eight elements, by a byte each. The share is then a multiple
    of 1/256, and the scale is exact for it (in the format of x).

    Args:
        share: of the elements that are zeroed.
    """

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return x of any shape with some elements zeroed."""
        dropped = min(255, round(self.share * 256))
        if not self.training or not dropped:
            return x
        if x.device.type != "cpu" or x.dtype not in _INTEGERS:
            return F.dropout(x, self.share)
        return x * _mask(x, dropped)


def _mask(x: torch.Tensor, dropped: int) -> torch.Tensor:
    """Return zeros and scales in the shape of x.

    Integer arithmetic on their bits is used, because comparing and converting takes four
    times as long.

    Args:
        x: the input.
        dropped: of 256 elements, how many are zeroed on average.
    """
    integer = _INTEGERS[x.dtype]
    draws = torch.empty(-(-x.numel() // 8), dtype=torch.int64)
    # From the smallest to the largest int64.
    draws.random_(-(2**63), None)
    bits = draws.view(torch.uint8)[: x.numel()].view(x.shape).to(integer)
    # All bits are one where the draw was below the threshold, else zero.
    bits.sub_(256 - dropped).bitwise_right_shift_(torch.iinfo(integer).bits - 1)
    scale = torch.tensor(256 / (256 - dropped), dtype=x.dtype).view(integer)
    return bits.bitwise_and_(scale).view(x.dtype)
