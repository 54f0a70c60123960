"""The recorder: writes down, in the driver and at once, what Tune hears of trials; and ends those that hang and searches that are over."""

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
from components.stages.tune.study import Study

F = TypeVar("F", bound=Callable[..., None])


def _guarded(method: F) -> F:
    """Tune would wrap what a callback raises in its own error: ours ends the search and is raised after it."""

    @wraps(method)
    def run(self: Recorder, *args: Any, **info: Any) -> None:
        try:
            method(self, *args, **info)
        except GristmillError as error:
            self.fault = self.fault or error

    return cast(F, run)


class Recorder(Callback, Stopper):
    """One search's ears.

    Args:
        study: where trials are written down.
        params: budget and time-outs.
        wanted: how many trials there will be.
        population: whose trials go on from others, so their states are kept longer.
    """

    def __init__(
        self, study: Study, params: TuneParams, wanted: int, population: Population | None = None
    ) -> None:
        self.study, self.params, self.wanted, self.population = study, params, wanted, population
        self.fault: GristmillError | None = None
        self.began = self.alive = time.monotonic()
        self.heard: dict[
            str, float
        ] = {}  # Tune's id of a trial -> when it last gave a sign of life
        self.leaving: deque[int] = deque(
            maxlen=8
        )  # ended, while their last checkpoint may still be on its way to the disk

    @property
    def seconds(self) -> float:
        """How long the search has taken, earlier lives included."""
        return self.study.spent + time.monotonic() - self.began

    def ended_by(self) -> str:
        """Which budget is used up: time, epochs or neither (empty)."""
        if self.params.time_budget_s and self.seconds >= self.params.time_budget_s:
            return "time"
        epochs = sum(len(trial.rows) for trial in self.study.first(self.wanted))
        return "epochs" if self.params.total_epochs and epochs >= self.params.total_epochs else ""

    def stop_all(self) -> bool:
        """Asked by Tune after each event."""
        return bool(self.fault or self.ended_by())

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:  # noqa: ARG002
        """Asked by Tune of a single trial: its last epoch ends it, with no call to the worker that would only say so. Before it, the scheduler decides.

        Not so under hyperband, which compares the last ones too, nor under pbt, whose members leave their weights.
        """
        return bool(
            self.params.scheduler not in ("hyperband", "pbt")
            and result.get("epoch", 0) >= self.params.epochs
        )

    @_guarded
    def on_step_begin(self, iteration: int, trials: list[Any], **info: Any) -> None:  # noqa: ARG002
        """End what hangs."""
        now, running = time.monotonic(), [trial for trial in trials if trial.status == "RUNNING"]
        if running or not trials:
            self.alive = now
        if now - self.alive > self.params.pending_timeout_s:
            told = f"no trial could start for {self.params.pending_timeout_s:g} s: something else holds the cluster's CPUs or GPUs"
            raise EnvironmentFault(
                told,
                where="tune.pending_timeout_s",
                remedy="free them (ray status), or raise it; the same command goes on",
            )
        for trial in running:
            limit, number = self.params.trial_timeout_s, trial.config["number"]
            if (
                limit
                and now - self.heard.get(trial.trial_id, now) > limit
                and self.study.trials[number].outcome is None
            ):
                self.study.end(
                    number,
                    "failed",
                    f"it reported nothing for {limit:g} s (tune.trial_timeout_s) and was ended",
                )
                ray.kill(trial.temporary_state.ray_actor)

    @_guarded
    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:  # noqa: ARG002
        """The clock of a trial begins."""
        self.heard[trial.trial_id] = time.monotonic()

    @_guarded
    def on_trial_result(
        self,
        iteration: int,  # noqa: ARG002
        trials: list[Any],  # noqa: ARG002
        trial: Any,
        result: dict[str, Any],
        **info: Any,  # noqa: ARG002
    ) -> None:
        """A row of the curve."""
        self.heard[trial.trial_id] = time.monotonic()
        self.study.add(trial.config["number"], result["row"])
        if self.params.time_budget_s:
            self.study.spend(self.seconds)

    @_guarded
    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:  # noqa: ARG002
        """The trial came to its end, was stopped by the scheduler, or raised."""
        known = self.study.trials[trial.config["number"]]
        if known.outcome is None:
            reason = self.study.failure(known.number)
            last = self.population.until(known.number) if self.population else self.params.epochs
            ended = bool(known.rows) and known.rows[-1]["epoch"] >= last
            self.study.end(
                known.number, "failed" if reason else "finished" if ended else "stopped", reason
            )
        self._settle(known.number)

    @_guarded
    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:  # noqa: ARG002
        """Its worker died again and again."""
        number = trial.config["number"]
        if self.study.trials[number].outcome is None:
            reason = str(trial.get_pickled_error() or "").strip().splitlines()[-1:] or [
                "no message"
            ]
            self.study.end(number, "failed", f"its worker died: {reason[0]}")
        self._settle(number)

    def _settle(self, number: int) -> None:
        self.leaving.append(number)
        self.clear(self.study.trials if self.population else self.leaving)
        done = sum(trial.outcome is not None for trial in self.study.first(self.wanted))
        self.study.journal.progress(done, self.wanted, "trials")

    def clear(self, numbers: Iterable[int]) -> None:
        """Drop the states of those that have ended and that nobody will go on from."""
        kept = self.population.kept(self.study.trials) if self.population else set()
        for number in numbers:
            if number not in kept and self.study.trials[number].outcome:
                self.study.clear(number)
