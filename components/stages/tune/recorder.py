"""Recorder of a search: writes what Tune reports of trials, at once and in the driver.

It also ends trials that hang, and searches that are over.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable
from functools import wraps
from typing import Any, TypeVar, cast

import ray
from ray.tune import Callback, Stopper

from components.core.errors import EnvironmentFault, GristmillError
from components.stages.tune.params import TuneParams
from components.stages.tune.population import Population
from components.stages.tune.study import Outcome, Study, Trial

F = TypeVar("F", bound=Callable[..., None])


def _guarded(method: F) -> F:
    """Return a callback that stores an error of ours, which ends the search and is raised after it.

    Tune would wrap what a callback raises in its own error.
    """

    @wraps(method)
    def run(self: Recorder, *args: Any, **info: Any) -> None:
        """Call the method, and keep its first error instead of raising it."""
        try:
            method(self, *args, **info)
        except GristmillError as error:
            self.fault = self.fault or error

    return cast(F, run)


class Recorder(Callback, Stopper):
    """Callback and stopper of one search.

    Args:
        study: where trials are written.
        params: budget and time-outs.
        wanted: how many trials there will be.
        population: under pbt; its trials go on from others, so their states are deleted later.
    """

    def __init__(
        self,
        study: Study,
        params: TuneParams,
        wanted: int,
        population: Population | None = None,
    ) -> None:
        self.study = study
        self.params = params
        self.wanted = wanted
        self.population = population
        self.fault: GristmillError | None = None
        self.began = time.monotonic()
        # When a trial was running last.
        self.alive = self.began
        # Tune's id of a trial -> when it last reported.
        self.last_report: dict[str, float] = {}
        # Ended trials with a last checkpoint that may still be being written.
        self.leaving: deque[int] = deque(maxlen=8)

    @property
    def seconds(self) -> float:
        """Return how long the search has taken, earlier runs included."""
        return self.study.spent + time.monotonic() - self.began

    def ended_by(self) -> str:
        """Return which budget is used up: time, epochs or neither (empty)."""
        if self.params.time_budget_s and self.seconds >= self.params.time_budget_s:
            return "time"
        epochs = sum(len(trial.rows) for trial in self.study.first(self.wanted))
        if self.params.total_epochs and epochs >= self.params.total_epochs:
            return "epochs"
        return ""

    def stop_all(self) -> bool:
        """Return whether the search is over; Tune asks after each event."""
        return bool(self.fault or self.ended_by())

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:  # noqa: ARG002
        """Return whether a trial has reached its last epoch.

        So it ends without another call to its worker. Before that epoch the scheduler decides.
        Hyperband compares trials at the last epoch too, and members of pbt write their weights
        after it, so they are not ended here.
        """
        if self.params.scheduler in ("hyperband", "pbt"):
            return False
        return bool(result.get("epoch", 0) >= self.params.epochs)

    @_guarded
    def on_step_begin(
        self,
        iteration: int,  # noqa: ARG002
        trials: list[Any],
        **info: Any,  # noqa: ARG002
    ) -> None:
        """End trials that hang.

        Raises:
            EnvironmentFault: no trial could start in time.
        """
        now = time.monotonic()
        running = [trial for trial in trials if trial.status == "RUNNING"]
        if running or not trials:
            self.alive = now
        if now - self.alive > self.params.pending_timeout_s:
            raise EnvironmentFault(
                f"no trial could start for {self.params.pending_timeout_s:g} s: "
                "something else holds the cluster's CPUs or GPUs",
                where="tune.pending_timeout_s",
                remedy="free them (ray status), or raise it; the same command goes on",
            )
        for trial in running:
            self._end_if_silent(trial, now)

    def _end_if_silent(self, trial: Any, now: float) -> None:
        """End a trial that has reported nothing for `trial_timeout_s`."""
        limit = self.params.trial_timeout_s
        number = trial.config["number"]
        silence = now - self.last_report.get(trial.trial_id, now)
        if not limit or silence <= limit or self.study.trials[number].outcome is not None:
            return
        error = f"it reported nothing for {limit:g} s (tune.trial_timeout_s) and was ended"
        self.study.end(number, "failed", error)
        ray.kill(trial.temporary_state.ray_actor)

    @_guarded
    def on_trial_start(
        self,
        iteration: int,  # noqa: ARG002
        trials: list[Any],  # noqa: ARG002
        trial: Any,
        **info: Any,  # noqa: ARG002
    ) -> None:
        """Start the clock of a trial."""
        self.last_report[trial.trial_id] = time.monotonic()

    @_guarded
    def on_trial_result(
        self,
        iteration: int,  # noqa: ARG002
        trials: list[Any],  # noqa: ARG002
        trial: Any,
        result: dict[str, Any],
        **info: Any,  # noqa: ARG002
    ) -> None:
        """Write the metrics of an epoch."""
        self.last_report[trial.trial_id] = time.monotonic()
        self.study.add(trial.config["number"], result["row"])
        if self.params.time_budget_s:
            self.study.spend(self.seconds)

    @_guarded
    def on_trial_complete(
        self,
        iteration: int,  # noqa: ARG002
        trials: list[Any],  # noqa: ARG002
        trial: Any,
        **info: Any,  # noqa: ARG002
    ) -> None:
        """Write that a trial has finished, was stopped by the scheduler, or raised."""
        recorded = self.study.trials[trial.config["number"]]
        if recorded.outcome is None:
            error = self.study.failure(recorded.number)
            self.study.end(recorded.number, self._outcome(recorded, error), error)
        self._after_end(recorded.number)

    def _outcome(self, trial: Trial, error: str) -> Outcome:
        """Return the outcome of a trial with a worker that did not die."""
        if error:
            return "failed"
        last = self.params.epochs
        if self.population:
            last = self.population.until(trial.number)
        if trial.rows and trial.rows[-1]["epoch"] >= last:
            return "finished"
        return "stopped"

    @_guarded
    def on_trial_error(
        self,
        iteration: int,  # noqa: ARG002
        trials: list[Any],  # noqa: ARG002
        trial: Any,
        **info: Any,  # noqa: ARG002
    ) -> None:
        """Write that the worker of a trial died too often."""
        number = trial.config["number"]
        if self.study.trials[number].outcome is None:
            lines = str(trial.get_pickled_error() or "").strip().splitlines()
            reason = lines[-1] if lines else "no message"
            self.study.end(number, "failed", f"its worker died: {reason}")
        self._after_end(number)

    def _after_end(self, number: int) -> None:
        """Delete states that are not needed any more, and show the progress."""
        self.leaving.append(number)
        self.clear(self.study.trials if self.population else self.leaving)
        done = sum(trial.outcome is not None for trial in self.study.first(self.wanted))
        self.study.journal.progress(done, self.wanted, "trials")

    def clear(self, numbers: Iterable[int]) -> None:
        """Delete the states of trials that have ended and from which no trial will go on.

        Args:
            numbers: of the trials.
        """
        needed: set[int] = set()
        if self.population:
            needed = self.population.needed(self.study.trials)
        for number in numbers:
            if number not in needed and self.study.trials[number].outcome:
                self.study.clear(number)
