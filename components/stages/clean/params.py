"""Params of `clean` that hold for all tasks."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from components.core.params import Strict


class Fold(Strict):
    """One of k folds as test split."""

    count: int = Field(ge=2, le=100, description="Number of folds (k).")
    number: int = Field(ge=1, le=100, description="Fold that is the test split: 1 to count.")

    @model_validator(mode="after")
    def _check_number(self) -> Fold:
        if self.number > self.count:
            raise ValueError(f"number must be from 1 to count, which is {self.count}")
        return self


class NearDuplicates(Strict):
    """Similarity of rows, for tasks with near-duplicates (`SplitRule.near_duplicates`)."""

    near_duplicates: float = Field(
        0.8,
        gt=0.3,
        le=1.0,
        description="Least similarity (texts: 3-grams) of near duplicates (1: exact only).",
    )


class CleanParams(Strict):
    """Duplicates, rows without a target, split."""

    boilerplate: int = Field(
        10,
        ge=0,
        description="Inputs that occur this often are dropped as boilerplate (0: never).",
    )
    unlabelled: Literal["quarantine", "keep"] = Field(
        "quarantine",
        description="What happens to rows without a target (keep: to pretrain and to distill).",
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
    fold: Fold | None = Field(
        None,
        description="Fold that is the test split, such as {count: 5, number: 1} (null: no folds).",
    )
    frozen_split: str | None = Field(
        None,
        description="File of keys that keeps a split as data grow; a retrain writes it.",
    )

    @model_validator(mode="after")
    def _check_train_share(self) -> CleanParams:
        if self.fold is not None:
            if self.validation_share + 1 / self.fold.count > 0.6:
                raise ValueError(
                    "validation_share and a fold of test leave less than 0.4 for train"
                )
        elif self.validation_share + self.test_share > 0.6:
            raise ValueError("validation_share + test_share leave less than 0.4 for train")
        return self

    @model_validator(mode="after")
    def _check_fold(self) -> CleanParams:
        if self.fold is None:
            return self
        if self.split_by == "time":
            raise ValueError(
                "fold: folds are drawn by hash, and would train on the future of their test rows: "
                "set fold: null, or split_by: hash"
            )
        if self.frozen_split is not None:
            raise ValueError(
                "fold: frozen_split keeps the test rows, and each fold tests others: "
                "set fold: null, or frozen_split: null"
            )
        return self


def near_duplicate_threshold(params: CleanParams) -> float:
    """Return the least similarity of near-duplicates; 1 where none are searched."""
    return params.near_duplicates if isinstance(params, NearDuplicates) else 1.0
