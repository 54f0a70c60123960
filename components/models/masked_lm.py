"""Masked-language modelling: a share of the tokens is hidden, and the net guesses them (BERT; Devlin et al. 2019, arXiv:1810.04805, section 3.1)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import torch
from torch import nn
from torch.nn import functional as F

_MASKED, _RANDOM = (
    0.8,
    0.1,
)  # of the hidden tokens; the rest is shown as it is, so that a state must hold what its token is


class Reads(Protocol):
    """What a net must offer: a state per token, and the table of its tokens."""

    head: nn.Module

    def states(self, *args: torch.Tensor, **inputs: torch.Tensor) -> torch.Tensor:
        """(..., width) of ids (...)."""

    def table(self) -> nn.Embedding:
        """Where ids become vectors."""


class Masked(nn.Module):
    """A net without its head, and one that guesses tokens: a layer, then the products with the net's own table.

    Args:
        net: keeps what it learns.
    """

    def __init__(self, net: Reads) -> None:
        super().__init__()
        assert isinstance(net, nn.Module)
        net.head = nn.Identity()
        self.net = net
        tokens, width = net.table().weight.shape
        self.transform, self.norm = nn.Linear(width, width), nn.LayerNorm(width)
        self.bias = nn.Parameter(torch.zeros(tokens))

    def forward(self, chosen: torch.Tensor, **inputs: torch.Tensor) -> torch.Tensor:
        """Logits (k, tokens) of the k tokens that are chosen, true in the shape of the ids."""
        x = self.net.states(**inputs)[chosen]  # (k, width)
        return F.linear(self.norm(F.gelu(self.transform(x))), self.net.table().weight, self.bias)

    def adapt(self) -> None:
        """All of it learns."""

    def rates(self) -> dict[str, float]:
        """All alike."""
        return dict.fromkeys((name for name, _ in self.named_parameters()), 1.0)

    def kept(self) -> dict[str, torch.Tensor]:
        """The net's own weights, under its own names."""
        return {
            name.removeprefix("net."): value
            for name, value in self.state_dict().items()
            if name.startswith("net.")
        }


def hide(
    batch: Mapping[str, torch.Tensor],
    share: float,
    mask: int,
    spared: torch.Tensor,
    tokens: int,
    rng: torch.Generator,
) -> dict[str, torch.Tensor]:
    """The batch with some of its tokens hidden: "ids" as shown, "hidden" as they were, "chosen" where (all in the shape of the ids).

    Args:
        share: of the tokens.
        mask: the id that stands for a hidden one.
        spared: ids that are never hidden.
        tokens: number of ids, of which a random one is drawn.
    """
    ids = batch["ids"]
    draw, kind = (torch.rand(ids.shape, generator=rng).to(ids.device) for _ in range(2))
    other = torch.randint(tokens, ids.shape, generator=rng).to(ids.device)
    there = batch["mask"] > 0 if "mask" in batch else torch.ones_like(ids, dtype=torch.bool)
    chosen = there & (draw < share) & ~torch.isin(ids, spared.to(ids.device))
    if not chosen.any():
        chosen = there  # a few very short rows: one guess too many is better than a loss over none
    shown = torch.where(kind < _MASKED, mask, torch.where(kind < _MASKED + _RANDOM, other, ids))
    return {**batch, "ids": torch.where(chosen, shown, ids), "hidden": ids, "chosen": chosen}
