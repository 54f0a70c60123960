"""Params of `tune`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from components.core.params import Strict
from components.stages.tune.search_space import Dimension, mutable

# Another value of these continues the same study. warm_start is one of them: the result of a trial
# depends on its values, not on what proposed them. A study that has begun keeps its first trials.
_BUDGET = frozenset(
    (
        "time_budget_s",
        "total_epochs",
        "cpus_per_trial",
        "gpus_per_trial",
        "workers_per_trial",
        "trial_timeout_s",
        "pending_timeout_s",
        "warm_start",
    )
)


class TuneParams(Strict):
    """The search: how many trials, how long, over what."""

    searcher: Literal["random", "grid", "optuna"] = Field(
        "random", description="Method that proposes configurations (optuna: TPE)."
    )
    scheduler: Literal["none", "asha", "hyperband", "median", "pbt"] = Field(
        "asha", description="Method that stops weak trials (pbt: a population, no refit)."
    )
    trials: int = Field(
        8,
        ge=0,
        le=100_000,
        description="Trials of the study; more extend it (pbt: members; 0: no search).",
    )
    time_budget_s: float | None = Field(
        None, gt=0, description="Most seconds of the search, without the refit (null: no limit)."
    )
    total_epochs: int | None = Field(
        None, ge=1, description="Most epochs of all trials together (null: no limit)."
    )
    epochs: int = Field(4, ge=1, description="Passes of the longest trial over the train rows.")
    grace_epochs: int = Field(1, ge=1, description="Epochs before asha or median may stop a trial.")
    reduction_factor: int = Field(
        2, ge=2, description="Trials at a rung of which asha and hyperband keep one."
    )
    perturb_epochs: int = Field(
        1,
        ge=1,
        description="Epochs after which the worst quarter copies the best (pbt).",
    )
    warm_start: int = Field(
        0,
        ge=0,
        le=1000,
        description="Best configurations of earlier searches to try first (not with grid).",
    )
    workers_per_trial: int = Field(
        1, ge=1, le=10_000, description="DDP ranks of one trial; each has the CPUs and GPUs below."
    )
    cpus_per_trial: float = Field(1, gt=0, description="CPUs of each worker of a trial.")
    gpus_per_trial: float = Field(0, ge=0, description="GPUs of each worker of a trial.")
    trial_timeout_s: float | None = Field(
        None,
        gt=0,
        description="Seconds without a new epoch after which a trial fails (null: never).",
    )
    pending_timeout_s: float = Field(
        600, gt=0, description="Seconds without a trial that can start that end the search."
    )
    space: dict[str, Dimension] = Field(
        min_length=1, description="Searched paths below train, each with a choice or a range."
    )

    @property
    def budget(self) -> frozenset[str]:
        """Return the params whose change continues the same study.

        The size of a population is fixed from the start.
        """
        if self.scheduler == "pbt":
            return _BUDGET
        return _BUDGET | {"trials"}

    @property
    def numbers(self) -> int:
        """Return the number of trials of the study; of pbt each stretch of a member is one."""
        if self.scheduler != "pbt":
            return self.trials
        stretches = -(-self.epochs // self.perturb_epochs)
        return self.trials * stretches

    @model_validator(mode="after")
    def _check_searcher(self) -> TuneParams:
        if self.grace_epochs > self.epochs:
            raise ValueError(f"grace_epochs {self.grace_epochs} is more than epochs {self.epochs}")
        if self.searcher == "grid" and self.warm_start:
            raise ValueError(
                "warm_start is for searcher random and optuna: "
                "a grid tries all of its combinations; make it 0"
            )
        return self

    @model_validator(mode="after")
    def _check_grid(self) -> TuneParams:
        uncountable = sorted(
            path for path, dimension in self.space.items() if dimension.values() is None
        )
        if self.searcher == "grid" and uncountable:
            paths = ", space.".join(uncountable)
            raise ValueError(
                f"searcher grid needs values that can be counted, and space.{paths} are ranges "
                "of real numbers: give a choice, or use searcher random or optuna"
            )
        return self

    @model_validator(mode="after")
    def _check_population(self) -> TuneParams:
        if self.scheduler != "pbt" or not self.trials:
            return self
        if self.searcher != "random":
            raise ValueError(
                "scheduler pbt draws its first members itself: "
                f"set searcher to random, not {self.searcher}"
            )
        if self.trials < 2 or self.perturb_epochs >= self.epochs:
            raise ValueError(
                f"scheduler pbt needs two members (trials {self.trials}) and two stretches "
                f"(perturb_epochs {self.perturb_epochs} of epochs {self.epochs})"
            )
        if not mutable(self.space):
            raise ValueError(
                "scheduler pbt needs a path in space that may change while a net learns, "
                "such as learning_rate, weight_decay or a dropout"
            )
        return self


def check_workers(tune: TuneParams, batch_size: int) -> list[str]:
    """Return the mistakes in trials of several workers: batches that leave a worker without rows.

    Args:
        tune: the section.
        batch_size: of `train`, which counts where the space draws none.
    """
    dimension = tune.space.get("batch_size")
    sizes = dimension.ends() if dimension else []
    if dimension is None or dimension.when:
        sizes = [*sizes, batch_size]
    smallest = min(sizes)
    needed = 2 * tune.workers_per_trial
    if smallest >= needed or tune.workers_per_trial == 1:
        return []
    return [
        f"tune.workers_per_trial: {tune.workers_per_trial}: a batch_size of {smallest} "
        f"leaves workers without rows; it must be at least {needed}"
    ]
