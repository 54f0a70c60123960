"""Knobs of `train` that hold for every task: those of a fit. The task adds its architectures and its baseline."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from components.core.params import Strict
from components.tasks.base import Architecture, Pretrains
from components.training.params import FitParams


class Pretrain(Strict):
    """Learning without labels, before the fit; what is not told here is as in the fit."""

    epochs: int = Field(0, ge=0, le=100_000)  # 0: none
    learning_rate: float = Field(1e-3, gt=0, le=10)
    mask_share: float = Field(0.15, gt=0, lt=1)  # of the tokens that is hidden


class TrainParams(FitParams):
    """How the first network is fitted."""

    architecture: str
    pretrain: Pretrain = Pretrain()


def check_pretrain(train: Any, architectures: Mapping[str, Architecture]) -> list[str]:
    """What is wrong with pretraining: an architecture that cannot."""
    if not train.pretrain.epochs or isinstance(architectures[train.architecture], Pretrains):
        return []
    able = (
        ", ".join(name for name, each in architectures.items() if isinstance(each, Pretrains))
        or "none of this task's"
    )
    return [
        f"train.pretrain.epochs: {train.pretrain.epochs}: architecture {train.architecture} has no state per token to guess hidden ones from; those that have: {able}"
    ]
