"""Rows of different lengths laid end to end, so that no layer computes padding. What must stay within a row is done here."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import groupby

import torch
from torch.nn import functional as F

from components.nets.attention import attention


@dataclass(frozen=True)
class Layout:
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
        return torch.arange(len(self.lengths), device=self.lengths.device).repeat_interleave(self.lengths)

    @cached_property
    def position(self) -> torch.Tensor:
        """(t,) place of each token in its row."""
        return torch.arange(len(self.row), device=self.lengths.device) - self.starts[self.row]

    @cached_property
    def sizes(self) -> list[int]:
        """The lengths as numbers; waits for the device."""
        return [int(size) for size in self.lengths.tolist()]

    def runs(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Rows of equal length that lie side by side, as views (rows, length, ...) of x (t, ...): no padding, no copy."""
        counted = [(length, len(list(run))) for length, run in groupby(self.sizes)]
        parts = x.split([length * rows for length, rows in counted])  # type: ignore[no-untyped-call]
        return [part.unflatten(0, (rows, length)) for part, (length, rows) in zip(parts, counted, strict=True)]


def attend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, layout: Layout) -> torch.Tensor:
    """Attention within each row: block-diagonal, and no block is padded.

    On a GPU in half precision one kernel does all rows (FlashAttention's variable-length form, Dao 2023, arXiv:2307.08691); elsewhere rows of equal
    length that lie side by side are a plain view (rows, length, heads, e) of the packed tensor, and need neither mask nor copy.

    Args:
        query, key, value: (t, heads, e).

    Returns:
        (t, heads, e).
    """
    if query.is_cuda and query.dtype in (torch.float16, torch.bfloat16):
        from torch.nn.attention.varlen import varlen_attn

        longest = max(layout.sizes)
        out: torch.Tensor = varlen_attn(query, key, value, layout.starts, layout.starts, longest, longest)  # type: ignore[assignment]
        return out
    runs = zip(*(layout.runs(each) for each in (query, key, value)), strict=True)
    return torch.cat([attention(*(each.transpose(1, 2) for each in run)).transpose(1, 2).flatten(0, 1) for run in runs])


def mean(x: torch.Tensor, layout: Layout) -> torch.Tensor:
    """(n, width) mean over each row of x (t, width), summed in single precision."""
    total = x.new_zeros((len(layout.lengths), x.shape[1]), dtype=torch.float32).index_add_(0, layout.row, x.float())
    return (total / layout.lengths.unsqueeze(1)).to(x.dtype)
