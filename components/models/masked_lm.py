"""Pretrain with masked-language modeling: some tokens are masked, and the network predicts them.

BERT: Devlin et al. 2019, arXiv:1810.04805, section 3.1.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import torch
from torch import nn
from torch.nn import functional as F

# Shares of the chosen tokens that are replaced by the mask and by a random token. The rest
# stays as it is, so that a state must represent its own token.
_MASKED = 0.8
_RANDOM = 0.1


class Reads(Protocol):
    """A network with a state per token and an embedding table of its tokens."""

    head: nn.Module

    def states(self, *args: torch.Tensor, **inputs: torch.Tensor) -> torch.Tensor:
        """Return states (..., width) of ids (...)."""

    def table(self) -> nn.Embedding:
        """Return the embedding of the token ids."""


class Masked(nn.Module):
    """A network without its head, under a head that predicts tokens.

    The head is a layer, then the products with the network's own embedding.

    Args:
        net: the network. It is trained in place.
    """

    def __init__(self, net: Reads) -> None:
        super().__init__()
        assert isinstance(net, nn.Module)
        net.head = nn.Identity()
        self.net = net
        tokens, width = net.table().weight.shape
        self.transform = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width)
        self.bias = nn.Parameter(torch.zeros(tokens))

    def forward(self, chosen: torch.Tensor, **inputs: torch.Tensor) -> torch.Tensor:
        """Return logits (k, tokens) of k chosen tokens.

        Args:
            chosen: in the shape of the ids, true where a token is chosen.
            inputs: of the network.
        """
        x = self.net.states(**inputs)[chosen]  # (k, width)
        x = self.norm(F.gelu(self.transform(x)))
        return F.linear(x, self.net.table().weight, self.bias)

    def adapt(self) -> None:
        """Do nothing: all parameters are trained."""

    def rates(self) -> dict[str, float]:
        """Return the factor 1 for all parameters."""
        return dict.fromkeys((name for name, _ in self.named_parameters()), 1.0)

    def saved_weights(self) -> dict[str, torch.Tensor]:
        """Return the network's own weights under its own names."""
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
    """Return a batch with some of its tokens masked.

    Args:
        batch: with "ids" and perhaps "mask".
        share: of the tokens that are chosen.
        mask: the id of the mask token.
        spared: ids that are never chosen.
        tokens: number of ids, of which random ones are drawn.
        rng: source of the random draws.

    Returns:
        The batch with "ids" after masking, "hidden" before, and "chosen", true where a token
        was chosen. All have the shape of the ids.
    """
    ids = batch["ids"]
    draw, kind = (torch.rand(ids.shape, generator=rng).to(ids.device) for _ in range(2))
    random_ids = torch.randint(tokens, ids.shape, generator=rng).to(ids.device)
    if "mask" in batch:
        is_token = batch["mask"] > 0
    else:
        is_token = torch.ones_like(ids, dtype=torch.bool)
    chosen = is_token & (draw < share) & ~torch.isin(ids, spared.to(ids.device))
    if not chosen.any():
        # A few very short rows: too many predictions are better than a loss over none.
        chosen = is_token
    unchanged_or_random = torch.where(kind < _MASKED + _RANDOM, random_ids, ids)
    replaced = torch.where(kind < _MASKED, mask, unchanged_or_random)
    masked_ids = torch.where(chosen, replaced, ids)
    return {**batch, "ids": masked_ids, "hidden": ids, "chosen": chosen}
