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
from components.stages.tune.study import MonitoredMetric


class _Patient(FIFOScheduler):
    """Scheduler that gives a free worker a trial without a worker that is just being started.

    Ray's own takes the first trial, and the worker that was being started for it is stopped. Where
    trials are shorter than the start of a worker (seconds), one worker ran all of them, one after
    the other.
    """

    def choose_trial_to_run(self, tune_controller: Any) -> Run | None:
        """Return the trial that a free worker runs; None if there is none."""
        # Ray wraps the controller to warn of access to these attributes.
        inner = getattr(tune_controller, "_tune_controller", tune_controller)
        waiting = inner._actor_manager.pending_actors
        trials = tune_controller.get_trials()
        for trial in trials:
            if trial.status != Run.PENDING:
                continue
            if inner._trial_to_actor.get(trial) in (None, *waiting):
                return trial
        return next((trial for trial in trials if trial.status == Run.PAUSED), None)


class _Asha(_Patient, AsyncHyperBandScheduler):
    """Asynchronous successive halving."""


class _Median(_Patient, MedianStoppingRule):
    """Median stopping that ignores trials that failed before their first epoch."""

    def on_trial_complete(
        self,
        tune_controller: Any,
        trial: Any,
        result: Mapping[str, Any],
    ) -> None:
        """Compare a trial that ended, if it has a metric."""
        if self._metric in result:
            super().on_trial_complete(tune_controller, trial, result)


class _HyperBand(HyperBandScheduler):
    """Hyperband that ends a bracket even if the last trial of it failed.

    Ray's own leaves the other trials of the bracket paused for ever.
    """

    def on_trial_remove(self, tune_controller: Any, trial: Any) -> None:
        """Remove a failed trial, and end its bracket if that has finished."""
        super().on_trial_remove(tune_controller, trial)
        bracket, _ = self._trial_info[trial]
        if bracket.finished():
            bracket.cleanup_full(tune_controller)


def make_scheduler(params: TuneParams, metric: MonitoredMetric) -> TrialScheduler:
    """Return the scheduler that `tune.scheduler` names.

    asha: Li et al. 2020, arXiv:1810.05934.
    hyperband: Li et al. 2018, arXiv:1603.06560.
    median: Golovin et al. 2017 (Vizier).

    Args:
        params: of tune.
        metric: the monitored one.
    """
    common = {"time_attr": "epoch", "metric": metric.name, "mode": metric.goal}
    if params.scheduler == "asha":
        return _Asha(
            max_t=params.epochs,
            grace_period=params.grace_epochs,
            reduction_factor=params.reduction_factor,
            **common,
        )
    if params.scheduler == "hyperband":
        return _HyperBand(max_t=params.epochs, reduction_factor=params.reduction_factor, **common)
    if params.scheduler == "median":
        # Without slices no trial is paused until there are others to compare with.
        return _Median(grace_period=params.grace_epochs, min_time_slice=math.inf, **common)
    return _Patient()


def forecast(params: TuneParams, trials: int) -> str:
    """Return a message: what the scheduler will do; empty if there is nothing to say.

    Args:
        params: of tune.
        trials: how many there will be.
    """
    factor = params.reduction_factor
    grace = params.grace_epochs
    if params.scheduler == "pbt":
        stretches = params.numbers // params.trials
        return (
            f"PBT: {params.trials} members in {stretches} stretches, each a trial; "
            "after each the worst quarter goes on from the best"
        )
    if params.scheduler != "asha":
        return ""
    if grace >= params.epochs:
        return f"grace_epochs {grace} is all of epochs {params.epochs}: ASHA will stop nothing"
    if trials < 2 * factor:
        return f"{trials} trials < 2 x reduction factor {factor}: ASHA will stop little"
    rungs = math.ceil(math.log(params.epochs / grace, factor) - 1e-9)
    shares = []
    for rung in range(rungs):
        epoch = grace * factor**rung
        reached = max(1, trials // factor**rung)
        left = max(1, trials // factor ** (rung + 1))
        shares.append(f"after epoch {epoch} about {left} of {reached} go on")
    return f"ASHA: {', '.join(shares)}"
