"""Pruning of single weights: they become 0, and the network keeps its shape."""

from __future__ import annotations

from collections.abc import Mapping

import torch

# Weights of a group in 2:4 sparsity, and those of them that stay.
_GROUP = 4
_STAY = 2


def prunable_weights(module: torch.nn.Module) -> list[str]:
    """Return the names of the matrices, tables and filters of a network, which have most weights.

    Args:
        module: the network.
    """
    return [name for name, parameter in module.named_parameters() if parameter.ndim >= 2]


def without_smallest(weights: Mapping[str, torch.Tensor], share: float) -> dict[str, torch.Tensor]:
    """Return the weights, those with the lowest scores of all tensors together set to 0.

    A score is the square of a weight over the sum of the squares that are not smaller in its tensor
    (Lee et al. 2021, arXiv:2010.07611). So tensors of small numbers do not become 0 as a whole.

    Args:
        weights: name -> tensor.
        share: of all weights that is 0, 0-1.
    """
    scores = {name: _scores(tensor) for name, tensor in weights.items()}
    all_scores = torch.cat([score.flatten() for score in scores.values()])
    zeros = round(share * len(all_scores))
    if not zeros:
        return dict(weights)
    threshold = all_scores.kthvalue(zeros).values
    return {
        name: tensor.masked_fill(scores[name] <= threshold, 0.0) for name, tensor in weights.items()
    }


def _scores(tensor: torch.Tensor) -> torch.Tensor:
    """Return the score of each weight, see `without_smallest`."""
    squares, order = tensor.flatten().double().square().sort()
    # A tensor of zeros alone has the score 0.
    not_smaller = squares.flip(0).cumsum(0).flip(0).clamp(min=torch.finfo(torch.float64).tiny)
    scores = torch.empty_like(squares)
    scores[order] = squares / not_smaller
    return scores.reshape(tensor.shape)


def two_of_four(weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the weights with the two smallest of four neighboring inputs set to 0.

    N:M sparsity (Mishra et al. 2021, arXiv:2104.08378). Inputs that fill no group stay.

    Args:
        weights: name -> (outputs, inputs, ...).
    """
    return {name: _two_of_four(tensor) for name, tensor in weights.items()}


def _two_of_four(tensor: torch.Tensor) -> torch.Tensor:
    inputs = tensor.shape[1] // _GROUP * _GROUP
    result = tensor.clone()
    # (outputs, ..., inputs), with the memory of the result.
    last = result.movedim(1, -1)[..., :inputs]
    groups = last.reshape(*last.shape[:-1], -1, _GROUP)
    smallest = groups.abs().topk(_GROUP - _STAY, dim=-1, largest=False).indices
    last.copy_(groups.scatter(-1, smallest, 0.0).reshape(last.shape))
    return result


def zero_share(weights: Mapping[str, torch.Tensor]) -> float:
    """Return the share of weights that are 0, 0-1.

    Args:
        weights: name -> tensor.
    """
    total = sum(tensor.numel() for tensor in weights.values())
    zeros = sum(int((tensor == 0).sum()) for tensor in weights.values())
    return zeros / max(1, total)
