"""Params of `clean` that hold for all tasks."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from components.core.params import Strict


class CleanParams(Strict):
    """Duplicates, rows without a target, split."""

    boilerplate: int = Field(
        10,
        ge=0,
        description="Inputs that occur this often are dropped as boilerplate (0: never).",
    )
    near_duplicates: float = Field(
        0.8,
        gt=0.3,
        le=1.0,
        description="Least similarity (texts: 3-grams) of near duplicates (1: exact only).",
    )
    unlabelled: Literal["quarantine", "keep"] = Field(
        "quarantine",
        description="What happens to rows without a target (keep: for train.pretrain).",
    )
    validation_share: float = Field(
        0.1, gt=0, lt=0.5, description="Share of the rows in the validation split."
    )
    test_share: float = Field(0.1, gt=0, lt=0.5, description="Share of the rows in the test split.")
    split_by: Literal["hash", "time"] = Field(
        "hash",
        description="How rows are split (time: the latest are test; see ingest.columns.time).",
    )
    embargo_days: float = Field(
        0.0,
        ge=0,
        description="Days before validation and test whose rows are left out of a split by time.",
    )
    frozen_split: str | None = Field(
        None,
        description="File of keys that keeps a split as data grow; a retrain writes it.",
    )

    @model_validator(mode="after")
    def _check_train_share(self) -> CleanParams:
        if self.validation_share + self.test_share > 0.6:
            raise ValueError("validation_share + test_share leave less than 0.4 for train")
        return self
