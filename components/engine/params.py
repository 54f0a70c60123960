"""Knobs of a fit; imports without torch."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from components.core.params import Strict


class FitParams(Strict):
    """How a network is fitted."""

    workers: int = Field(2, ge=1, le=10_000)
    epochs: int = Field(8, ge=1, le=100_000)
    batch_size: int = Field(64, ge=1)
    optimizer: Literal["adamw", "adam", "sgd"] = "adamw"
    learning_rate: float = Field(1e-3, gt=0, le=10)
    weight_decay: float = Field(0.01, ge=0, le=10)
    warmup_share: float = Field(0.06, ge=0, lt=1)
    clip_norm: float = Field(1.0, gt=0)
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    patience: int = Field(2, ge=1)
    checkpoint_steps: int = Field(100, ge=1)

    @model_validator(mode="after")
    def _shares(self) -> FitParams:
        if self.batch_size < 2 * self.workers:
            raise ValueError(f"batch_size {self.batch_size} leaves workers ({self.workers}) without rows; it must be at least {2 * self.workers}")
        return self
