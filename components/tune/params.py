"""Knobs of `tune`."""

from __future__ import annotations

from pydantic import Field, model_validator

from components.core.params import Strict
from components.tune.space import Dimension


class TuneParams(Strict):
    """The search: how many trials, how long, over what."""

    trials: int = Field(8, ge=1, le=100_000)
    epochs: int = Field(4, ge=1)
    grace_epochs: int = Field(1, ge=1)
    reduction_factor: int = Field(2, ge=2)
    cpus_per_trial: float = Field(1, gt=0)
    space: dict[str, Dimension] = Field(min_length=1)

    @model_validator(mode="after")
    def _grace(self) -> TuneParams:
        if self.grace_epochs > self.epochs:
            raise ValueError(f"grace_epochs {self.grace_epochs} is more than epochs {self.epochs}")
        return self
