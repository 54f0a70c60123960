"""Rows of different lengths laid end to end, so that no layer computes padding."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import groupby

import torch
from torch.nn import functional as F


@dataclass(frozen=True)
class PackedLayout:
    """Where the rows of a packed batch lie.

    Args:
        lengths: (n,) tokens of each row, at least one; rows of equal length beside each other make attention cheapest on CPU.
    """

    lengths: torch.Tensor

    @cached_property
    def starts(self) -> torch.Tensor:
        """(n + 1,) int32: first token of each row, then the number of all."""
        return F.pad(self.lengths.cumsum(0), (1, 0)).to(torch.int32)

    @cached_property
    def row(self) -> torch.Tensor:
        """(t,) row of each token."""
        return torch.arange(len(self.lengths), device=self.lengths.device).repeat_interleave(
            self.lengths
        )

    @cached_property
    def position(self) -> torch.Tensor:
        """(t,) place of each token in its row."""
        return torch.arange(len(self.row), device=self.lengths.device) - self.starts[self.row]

    @cached_property
    def sizes(self) -> list[int]:
        """The lengths as numbers; waits for the device."""
        return [int(size) for size in self.lengths.tolist()]

    @cached_property
    def runs(self) -> list[tuple[int, int, int]]:
        """(first token, rows, their length) of each run of rows of equal length side by side."""
        found, start = [], 0
        for length, run in groupby(self.sizes):
            rows = len(list(run))
            found.append((start, rows, length))
            start += rows * length
        return found


def mean(x: torch.Tensor, layout: PackedLayout) -> torch.Tensor:
    """(n, width) mean over each row of x (t, width), summed in single precision."""
    total = x.new_zeros((len(layout.lengths), x.shape[1]), dtype=torch.float32).index_add_(
        0, layout.row, x.float()
    )
    return (total / layout.lengths.unsqueeze(1)).to(x.dtype)
