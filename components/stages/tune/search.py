"""Ray Tune around the loop. What a trial found lies in the study, so Ray's own record of a search is of no use after it."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.exceptions import RayActorError
from ray.tune.search import Searcher

from components.core.files import remove_tree, to_json, write_atomic
from components.stages.tune.concurrency import at_once
from components.stages.tune.params import TuneParams
from components.stages.tune.population import Population, inherit
from components.stages.tune.recorder import Recorder
from components.stages.tune.schedulers import forecast, make_scheduler
from components.stages.tune.search_space import Values
from components.stages.tune.searchers import Ask
from components.stages.tune.study import FAILURE, OUTCOME, Study, Trial, Watched
from components.training.fit_config import FitConfig

_LIVES = 4  # how often a trial is begun again whose worker was lost, or one of whose workers had too little memory (each time with half of the tokens at once)
Work = Callable[[FitConfig, Callable[[Mapping[str, float]], None]], object]


def search(
    study: Study,
    ask: Ask,
    spec_of: Callable[[Values, Path], FitConfig],
    watched: Watched,
    params: TuneParams,
    work: Work | None = None,
    population: Population | None = None,
) -> str:
    """Run the trials that the study lacks. Trials that ended earlier tell the scheduler and the searcher what they found, and compute nothing.

    Args:
        spec_of: values and a state folder -> what to fit.
        work: what a trial does; `fit` by default.
        population: where later trials go on from earlier ones.

    Returns:
        what ended the search: trials, time or epochs.

    Raises:
        EnvironmentFault: trials do not fit the cluster, or none could start in time.
    """
    room = at_once(params, [node["Resources"] for node in ray.nodes() if node["Alive"]])
    if params.searcher == "grid" and ask(params.trials, []) is not None:
        study.journal.log(
            f"the grid has more than {params.trials} combinations: the first {params.trials} are run (tune.trials)"
        )
    numbers = [
        number
        for number in range(params.numbers)
        if number in study.trials or params.searcher != "grid" or ask(number, []) is not None
    ]
    say, wanted = study.journal.log, len(numbers)
    say(study.welcome(wanted))
    recorder = Recorder(study, params, wanted, population)
    missing = [
        number
        for number in numbers
        if number not in study.trials or study.trials[number].outcome is None
    ]
    if missing and not recorder.stop_all() and not (population and population.lost(study.trials)):
        say(f"{wanted} trials, {min(room, len(missing))} at once")
        if line := forecast(params, wanted):
            say(line)
        replayed = (
            []
            if params.scheduler in ("none", "pbt")
            else [number for number in numbers if number not in missing]
        )
        _run(
            room,
            study,
            _Queue(study, ask, spec_of, replayed, missing, population),
            watched,
            params,
            recorder,
            work or _fit,
        )
    if recorder.fault:
        raise recorder.fault
    by = (
        recorder.ended_by()
        if any(
            number not in study.trials or study.trials[number].outcome is None for number in numbers
        )
        else ""
    )
    if by:
        say(
            f"the search ended by its budget of {by}: trials that were running count as stopped, the rest were not begun"
        )
    return by or "trials"


def _run(
    room: int,
    study: Study,
    queue: _Queue,
    watched: Watched,
    params: TuneParams,
    recorder: Recorder,
    work: Work,
) -> None:
    storage = study.state / "ray"
    # Of an earlier life: two truths would be one too many.
    remove_tree(storage, within=study.state)
    os.environ["TUNE_DISABLE_STRICT_METRIC_CHECKING"] = (
        "1"  # a trial that fails before its first epoch has none
    )
    os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = (
        "1"  # CSV, JSON and TensorBoard files of each trial: the study is the record
    )
    os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = (
        "2" if params.searcher == "optuna" else str(room + 1)
    )  # asked for ahead of their start; one that learns is asked late
    logging.getLogger("ray.tune.analysis.experiment_analysis").setLevel(
        logging.ERROR
    )  # it misses those files
    room_of_one = tune.PlacementGroupFactory(
        [{"CPU": params.cpus_per_trial, "GPU": params.gpus_per_trial}] * params.workers_per_trial
    )
    trainable = tune.with_resources(
        tune.with_parameters(_trial, work=work, watched=watched), room_of_one
    )
    tuner = tune.Tuner(
        trainable,
        tune_config=tune.TuneConfig(
            search_alg=queue,
            scheduler=make_scheduler(params, watched),
            num_samples=-1,
            reuse_actors=True,
            trial_dirname_creator=lambda trial: f"{trial.config['number']:04d}-{trial.trial_id}",
        ),
        run_config=tune.RunConfig(
            name="search",
            storage_path=str(storage),
            verbose=0,
            callbacks=[recorder],
            stop=recorder,
            failure_config=tune.FailureConfig(max_failures=_LIVES),
        ),
    )
    with study.behind():
        tuner.fit()
    remove_tree(storage, within=study.state)
    recorder.clear(study.trials)


class _Queue(Searcher):
    """Hands Tune one trial after the other: the ended ones, whose rows the scheduler must know; those that were cut off; new ones."""

    def __init__(
        self,
        study: Study,
        ask: Ask,
        spec_of: Callable[[Values, Path], FitConfig],
        ended: list[int],
        missing: list[int],
        population: Population | None,
    ) -> None:
        super().__init__()
        self.study, self.ask, self.spec_of, self.population = study, ask, spec_of, population
        self.left = [
            *ended,
            *sorted(missing, key=lambda number: (number not in study.trials, number)),
        ]

    def suggest(self, trial_id: str) -> Any:  # noqa: ARG002
        if not self.left:
            return Searcher.FINISHED
        if self.population:
            return self._stretch(self.left[0], self.population)
        number = self.left.pop(0)
        trial = self.study.trials.get(number) or self._new(number)
        return {
            "number": number,
            "spec": self.spec_of(trial.values, self.study.folder(number)),
            "replay": trial.rows if trial.outcome else None,
            "parent": None,
            "inherited": 0,
        }

    def _stretch(self, number: int, population: Population) -> Any:
        """A stretch of a member, once all of the generation before have ended; None, for not yet, makes Tune ask again."""
        if not population.ready(number, self.study.trials):
            return None
        parent = None
        if population.generation(number):
            born = population.born(number, self.study.trials)
            if born is None:
                return Searcher.FINISHED
            parent = self.study.folder(born[0])
            if number not in self.study.trials:
                self.study.begin(number, born[1])
        trial = self.study.trials.get(number) or self._new(number)
        self.left.pop(0)
        spec = replace(
            self.spec_of(trial.values, self.study.folder(number)), until=population.until(number)
        )
        return {
            "number": number,
            "spec": spec,
            "replay": None,
            "parent": parent,
            "inherited": population.inherited(number),
        }

    def _new(self, number: int) -> Trial:
        values = self.ask(number, [trial for _, trial in sorted(self.study.trials.items())])
        assert values is not None, "numbers beyond the grid are never queued"
        return self.study.begin(number, values)

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """The study knows already."""

    def save_to_dir(self, checkpoint_dir: str, session_str: str = "default") -> None:
        """The study is the record."""


def _trial(config: dict[str, Any], work: Work, watched: Watched) -> None:
    """One trial, in a Tune worker. What it raises is its outcome; only a worker that dies is Tune's affair."""
    os.environ["TUNE_FUNCTION_THREAD_TIMEOUT_S"] = (
        "120"  # a trial that is stopped writes its last checkpoint; with Ray's 2 s the next one on this worker failed
    )
    spec: FitConfig = config["spec"]
    last: dict[str, Any] = {}
    stopped: list[bool] = []
    inherited = config["inherited"]

    def report(row: Mapping[str, float]) -> None:
        if row["epoch"] <= inherited:
            return
        last.update({"epoch": row["epoch"], watched.name: row[watched.name], "row": dict(row)})
        try:
            tune.report(dict(last))
        except SystemExit:  # Tune has stopped the trial
            stopped.append(True)
            raise

    if config["replay"] is not None:
        for row in config["replay"]:
            report(row)
        return
    if any(
        (spec.state / name).exists() for name in (FAILURE, OUTCOME)
    ):  # its worker was ended after that, and Tune has begun it again
        return
    room = spec.room
    try:
        if config["parent"]:
            inherit(config["parent"], spec.state)
        work(spec, report)
    except Exception as error:
        if stopped:  # what fails in leaving is of no interest, and an end that is not this one would leave the worker waiting for ever
            raise SystemExit(0) from error
        if (
            isinstance(error, RayActorError) or spec.room != room
        ):  # a worker was lost, or had too little memory: all begin anew
            raise
        lines = str(error).strip().splitlines() or ["no message"]
        write_atomic(spec.state / FAILURE, to_json(f"{type(error).__name__}: {lines[0]}"))


def _fit(spec: FitConfig, report: Callable[[Mapping[str, float]], None]) -> None:
    import torch

    from components.stages.tune.multi_worker_trial import fit_together
    from components.training.loop import fit

    if spec.params.workers > 1:
        fit_together(spec, report)
        return
    torch.set_num_threads(1)
    fit(spec, report=report)
