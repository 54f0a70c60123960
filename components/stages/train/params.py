"""Params of `train` that hold for every task: those of a fit.

The task adds its architectures and its baseline.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from components.core.params import Strict
from components.tasks.base import ARCHITECTURE, Architecture, Pretrains
from components.training.params import FitParams


class Pretrain(Strict):
    """Learning without targets, before the fit. Everything else is as in the fit."""

    epochs: int = Field(
        0,
        ge=0,
        le=100_000,
        description="Passes over train and unlabeled rows before the fit (0: no pretraining).",
    )
    learning_rate: float = Field(
        1e-3, gt=0, le=10, description="Peak learning rate of the pretraining."
    )
    mask_share: float = Field(
        0.15, gt=0, lt=1, description="Share of the tokens that is hidden and guessed."
    )


class TrainParams(FitParams):
    """How the first network is fitted."""

    architecture: str = Field(description=ARCHITECTURE)
    pretrain: Pretrain = Field(
        Pretrain(), description="Guessing hidden tokens first, for transformer and pretrained."
    )


def check_pretrain(train: Any, architectures: Mapping[str, Architecture]) -> list[str]:
    """Return the mistakes in pretraining: an architecture that cannot be pretrained.

    Args:
        train: the section `train` of a task.
        architectures: of the task, by name.
    """
    epochs = train.pretrain.epochs
    if not epochs or isinstance(architectures[train.architecture], Pretrains):
        return []
    names = [name for name, value in architectures.items() if isinstance(value, Pretrains)]
    suitable = ", ".join(names) or "none of this task's"
    return [
        f"train.pretrain.epochs: {epochs}: architecture {train.architecture} has no state "
        f"per token to guess hidden ones from; those that have: {suitable}"
    ]
