"""Optimisers and the learning-rate schedule."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch

from components.engine.params import FitParams


def optimizer(module: torch.nn.Module, knobs: FitParams) -> torch.optim.Optimizer:
    """The optimiser; weight decay spares biases, norms and embeddings' one-dimensional kin (parameters of fewer than two axes)."""
    groups = [
        {"params": [p for p in module.parameters() if p.ndim >= 2], "weight_decay": knobs.weight_decay},
        {"params": [p for p in module.parameters() if p.ndim < 2], "weight_decay": 0.0},
    ]
    if knobs.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=knobs.learning_rate, momentum=0.9, nesterov=True)
    kind = torch.optim.AdamW if knobs.optimizer == "adamw" else torch.optim.Adam
    return kind(groups, lr=knobs.learning_rate, fused=True)


def rate(step: int, total: int, knobs: FitParams) -> float:
    """Learning rate of a step: linear warm-up, then half a cosine down to zero (Loshchilov and Hutter 2017, arXiv:1608.03983)."""
    warmup = max(1, round(total * knobs.warmup_share))
    if step < warmup:
        return knobs.learning_rate * (step + 1) / warmup
    share = (step - warmup) / max(1, total - warmup)
    return knobs.learning_rate * 0.5 * (1 + math.cos(math.pi * min(1.0, share)))


def set_rate(optimizers: Iterable[torch.optim.Optimizer], value: float) -> None:
    """Put a learning rate into all parameter groups."""
    for each in optimizers:
        for group in each.param_groups:
            group["lr"] = value
