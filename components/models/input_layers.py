"""Name the layers at which the content of a row enters a network, for integrated gradients."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import nn
from torch.nn import functional as F

# A network's inputs, and contributions (n, ...) of the numbers of a layer -> (n, elements).
Spread = Callable[[Mapping[str, torch.Tensor], torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class InputLayer:
    """A layer through which the content of a row enters. Zeros stand for a row that says nothing.

    Args:
        module: the layer.
        spread: adds contributions up by the elements of a row, such as its tokens.
        before: whether the numbers are those that the layer takes, not those that it returns.
    """

    module: nn.Module
    spread: Spread
    before: bool = False


@runtime_checkable
class HasInputLayers(Protocol):
    """A network whose answers can be traced back to the elements of a row."""

    def input_layers(self) -> Sequence[InputLayer]:
        """Return the layers through which all content of a row enters."""


def by_token(
    inputs: Mapping[str, torch.Tensor],  # noqa: ARG001
    contributions: torch.Tensor,
) -> torch.Tensor:
    """Return (n, t) the contributions of tokens from those of embeddings (n, t, width)."""
    return contributions.sum(-1)


def over_grams(contributions: torch.Tensor, lengths: Sequence[int]) -> torch.Tensor:
    """Return (n, t) the contributions of n-grams in equal shares on their tokens.

    Args:
        contributions: (n, t, kinds) of the n-grams that end at each token.
        lengths: tokens of the n-grams of each kind.
    """
    result = contributions.new_zeros(contributions.shape[:2])
    tokens = result.shape[1]
    for kind, length in enumerate(lengths):
        share = contributions[..., kind] / length
        for back in range(min(length, tokens)):
            # Of the n-gram that ends at a token, the one `back` tokens before it.
            result += F.pad(share[:, back:], (0, back))
    return result
