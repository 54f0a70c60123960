"""Pack rows of different lengths into one tensor, so that no layer computes padding."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import groupby

import torch
from torch.nn import functional as F


@dataclass(frozen=True)
class PackedLayout:
    """Positions of the rows in a packed batch of n rows and t tokens.

    Args:
        lengths: (n,) tokens of each row, at least one. Attention on a CPU is fastest where
            rows of equal length are side by side.
    """

    lengths: torch.Tensor

    @cached_property
    def starts(self) -> torch.Tensor:
        """Return (n + 1,) int32: the first token of each row, then the number of tokens."""
        return F.pad(self.lengths.cumsum(0), (1, 0)).to(torch.int32)

    @cached_property
    def row(self) -> torch.Tensor:
        """Return (t,) row number of each token."""
        numbers = torch.arange(len(self.lengths), device=self.lengths.device)
        return numbers.repeat_interleave(self.lengths)

    @cached_property
    def position(self) -> torch.Tensor:
        """Return (t,) position of each token in its row."""
        return torch.arange(len(self.row), device=self.lengths.device) - self.starts[self.row]

    @cached_property
    def sizes(self) -> list[int]:
        """Return the lengths as Python integers. This waits for the device."""
        return [int(size) for size in self.lengths.tolist()]

    @cached_property
    def runs(self) -> list[tuple[int, int, int]]:
        """Return (first token, rows, tokens of a row) of each run of rows of equal length."""
        result = []
        start = 0
        for length, run in groupby(self.sizes):
            rows = len(list(run))
            result.append((start, rows, length))
            start += rows * length
        return result


def mean(x: torch.Tensor, layout: PackedLayout) -> torch.Tensor:
    """Return the mean (n, width) over each row of x (t, width), summed in fp32."""
    total = x.new_zeros((len(layout.lengths), x.shape[1]), dtype=torch.float32)
    total.index_add_(0, layout.row, x.float())
    return (total / layout.lengths.unsqueeze(1)).to(x.dtype)
