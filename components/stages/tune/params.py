"""Knobs of `tune`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from components.core.params import Strict
from components.stages.tune.search_space import Dimension, mutable


class TuneParams(Strict):
    """The search: how many trials, how long, over what."""

    searcher: Literal["random", "grid", "optuna"] = "random"
    scheduler: Literal["none", "asha", "hyperband", "median", "pbt"] = "asha"
    # 0: no search
    trials: int = Field(8, ge=0, le=100_000)
    time_budget_s: float | None = Field(None, gt=0)
    total_epochs: int | None = Field(None, ge=1)  # of all trials together
    epochs: int = Field(4, ge=1)
    grace_epochs: int = Field(1, ge=1)
    reduction_factor: int = Field(2, ge=2)
    perturb_epochs: int = Field(1, ge=1)
    warm_start: int = Field(0, ge=0, le=1000)
    workers_per_trial: int = Field(1, ge=1, le=10_000)
    cpus_per_trial: float = Field(1, gt=0)
    gpus_per_trial: float = Field(0, ge=0)
    trial_timeout_s: float | None = Field(None, gt=0)
    pending_timeout_s: float = Field(600, gt=0)
    space: dict[str, Dimension] = Field(min_length=1)

    @property
    def budget(self) -> frozenset[str]:
        """How far a search goes, on what and from where: another value goes on with the same study. A population is one from the start.

        warm_start is one of them: what a trial finds depends on its values and not on who proposed them, so trials that ended stay true; a study that has begun
        keeps the first ones that it wrote down.
        """
        far = {
            "time_budget_s",
            "total_epochs",
            "cpus_per_trial",
            "gpus_per_trial",
            "workers_per_trial",
            "trial_timeout_s",
            "pending_timeout_s",
            "warm_start",
        }
        return frozenset(far if self.scheduler == "pbt" else {*far, "trials"})

    @property
    def numbers(self) -> int:
        """How many trials the study counts: under pbt each stretch of a member is one."""
        return self.trials * (
            -(-self.epochs // self.perturb_epochs) if self.scheduler == "pbt" else 1
        )

    @model_validator(mode="after")
    def _together(self) -> TuneParams:
        if self.grace_epochs > self.epochs:
            raise ValueError(f"grace_epochs {self.grace_epochs} is more than epochs {self.epochs}")
        if self.searcher == "grid" and self.warm_start:
            raise ValueError(
                "warm_start is for searcher random and optuna: a grid tries all of its combinations; make it 0"
            )
        return self

    @model_validator(mode="after")
    def _countable(self) -> TuneParams:
        endless = sorted(
            path for path, dimension in self.space.items() if dimension.values() is None
        )
        if self.searcher == "grid" and endless:
            raise ValueError(
                f"searcher grid needs values that can be counted, and space.{', space.'.join(endless)} are ranges of real numbers: give a choice, or use searcher random or optuna"
            )
        return self

    @model_validator(mode="after")
    def _populous(self) -> TuneParams:
        if self.scheduler != "pbt" or not self.trials:
            return self
        if self.searcher != "random":
            raise ValueError(
                f"scheduler pbt draws its first members itself: set searcher to random, not {self.searcher}"
            )
        if self.trials < 2 or self.perturb_epochs >= self.epochs:
            raise ValueError(
                f"scheduler pbt needs two members (trials {self.trials}) and two stretches (perturb_epochs {self.perturb_epochs} of epochs {self.epochs})"
            )
        if not mutable(self.space):
            raise ValueError(
                "scheduler pbt needs a path in space that may change while a net learns, such as learning_rate, weight_decay or a dropout"
            )
        return self


def check_workers(tune: TuneParams, batch_size: int) -> list[str]:
    """What is wrong with trials of several workers: batches that leave one without rows. `batch_size`: of train, where the space has none."""
    searched = tune.space.get("batch_size")
    smallest = min(
        [
            *(searched.ends() if searched else []),
            *([] if searched and not searched.when else [batch_size]),
        ]
    )
    if smallest >= 2 * tune.workers_per_trial or tune.workers_per_trial == 1:
        return []
    return [
        f"tune.workers_per_trial: {tune.workers_per_trial}: a batch_size of {smallest} leaves workers without rows; it must be at least {2 * tune.workers_per_trial}"
    ]
