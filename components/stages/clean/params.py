"""Knobs of `clean` that hold for every kind of data."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from components.core.params import Strict


class CleanParams(Strict):
    """Duplicates, conflicts, small classes, rows without a label, split."""

    boilerplate: int = Field(10, ge=0)
    near_duplicates: float = Field(0.8, gt=0.3, le=1.0)
    conflicts: Literal["drop", "majority"] = "drop"
    min_rows_per_class: int = Field(10, ge=3)
    small_classes: Literal["refuse", "merge"] = "refuse"
    unlabelled: Literal["quarantine", "keep"] = "quarantine"
    validation_share: float = Field(0.1, gt=0, lt=0.5)
    test_share: float = Field(0.1, gt=0, lt=0.5)
    frozen_split: str | None = None

    @model_validator(mode="after")
    def _some_train(self) -> CleanParams:
        if self.validation_share + self.test_share > 0.6:
            raise ValueError("validation_share + test_share leave less than 0.4 for train")
        return self
