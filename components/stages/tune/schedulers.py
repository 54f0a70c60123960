"""Schedulers: which trials Ray Tune stops before their end."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from ray.tune.experiment import Trial as Run
from ray.tune.schedulers import (
    AsyncHyperBandScheduler,
    FIFOScheduler,
    HyperBandScheduler,
    MedianStoppingRule,
    TrialScheduler,
)

from components.stages.tune.params import TuneParams
from components.stages.tune.study import Watched


class _Patient(FIFOScheduler):
    """Gives a worker that is free a trial whose own worker is not just being started: Ray's own takes the first, whose start is then thrown away. So where
    trials are shorter than the start of a worker (seconds), one worker ran all of them, one after the other.
    """

    def choose_trial_to_run(self, tune_controller: Any) -> Run | None:
        inner = getattr(
            tune_controller, "_tune_controller", tune_controller
        )  # around it lies what warns of just this
        waiting, trials = inner._actor_manager.pending_actors, tune_controller.get_trials()
        free = (
            trial
            for trial in trials
            if trial.status == Run.PENDING and inner._trial_to_actor.get(trial) in (None, *waiting)
        )
        return next(free, None) or next(
            (trial for trial in trials if trial.status == Run.PAUSED), None
        )


class _Asha(_Patient, AsyncHyperBandScheduler):
    """Asynchronous successive halving."""


class _Median(_Patient, MedianStoppingRule):
    """A trial that failed before its first epoch has no figure to be compared with."""

    def on_trial_complete(
        self, tune_controller: Any, trial: Any, result: Mapping[str, Any]
    ) -> None:
        if self._metric in result:
            super().on_trial_complete(tune_controller, trial, result)


class _HyperBand(HyperBandScheduler):
    """Ray's own leaves the others of a bracket paused for ever if the last one to come to its end has failed."""

    def on_trial_remove(self, tune_controller: Any, trial: Any) -> None:
        super().on_trial_remove(tune_controller, trial)
        bracket, _ = self._trial_info[trial]
        if bracket.finished():
            bracket.cleanup_full(tune_controller)


def make_scheduler(params: TuneParams, watched: Watched) -> TrialScheduler:
    """The scheduler that `tune.scheduler` names.

    asha: Li et al. 2020, arXiv:1810.05934; hyperband: Li et al. 2018, arXiv:1603.06560; median: Golovin et al. 2017 (Vizier).
    """
    told = {"time_attr": "epoch", "metric": watched.name, "mode": watched.goal}
    if params.scheduler == "asha":
        return _Asha(
            max_t=params.epochs,
            grace_period=params.grace_epochs,
            reduction_factor=params.reduction_factor,
            **told,
        )
    if params.scheduler == "hyperband":
        return _HyperBand(max_t=params.epochs, reduction_factor=params.reduction_factor, **told)
    if params.scheduler == "median":
        return _Median(
            grace_period=params.grace_epochs, min_time_slice=math.inf, **told
        )  # without slices: no trial is paused for want of others
    return _Patient()


def forecast(params: TuneParams, trials: int) -> str:
    """One line: what the scheduler will do to so many trials; empty if there is nothing to say."""
    factor, grace = params.reduction_factor, params.grace_epochs
    if params.scheduler == "pbt":
        return f"PBT: {params.trials} members in {params.numbers // params.trials} stretches, each a trial; after each the worst quarter goes on from the best"
    if params.scheduler != "asha":
        return ""
    if grace >= params.epochs:
        return f"grace_epochs {grace} is all of epochs {params.epochs}: ASHA will stop nothing"
    if trials < 2 * factor:
        return f"{trials} trials < 2 x reduction factor {factor}: ASHA will stop little"
    rungs = [
        grace * factor**k for k in range(math.ceil(math.log(params.epochs / grace, factor) - 1e-9))
    ]
    shares = [
        f"after epoch {rung} about {max(1, trials // factor ** (k + 1))} of {max(1, trials // factor**k)} go on"
        for k, rung in enumerate(rungs)
    ]
    return f"ASHA: {', '.join(shares)}"
