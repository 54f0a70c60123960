"""Search with Ray Tune.

The results of the trials are in the study, so Ray's own record of a search is deleted after it.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.air._internal import usage
from ray.exceptions import RayActorError
from ray.tune.search import Searcher

from components.core.files import remove_tree, to_json, write_atomic
from components.stages.tune.concurrency import at_once
from components.stages.tune.params import TuneParams
from components.stages.tune.population import Population, inherit
from components.stages.tune.recorder import Recorder
from components.stages.tune.schedulers import forecast, make_scheduler
from components.stages.tune.search_space import Values
from components.stages.tune.searchers import SuggestParams
from components.stages.tune.study import FAILURE, OUTCOME, MonitoredMetric, Study, Trial
from components.training.fit_config import FitConfig

# How often a trial begins again if a worker of it was lost or had too little memory. After the
# latter it has half of the tokens at once.
_LIVES = 4
# Seconds that a stopped trial has to write its last checkpoint. With Ray's 2 s the next trial on
# the worker failed.
_STOP_TIMEOUT_S = "120"
Work = Callable[[FitConfig, Callable[[Mapping[str, float]], None]], object]


def search(
    study: Study,
    ask: SuggestParams,
    spec_of: Callable[[Values, Path], FitConfig],
    metric: MonitoredMetric,
    params: TuneParams,
    work: Work | None = None,
    population: Population | None = None,
) -> str:
    """Run the trials that the study lacks.

    The scheduler and the searcher learn the results of trials that have ended. These trials
    compute nothing.

    Args:
        study: of the search.
        ask: the searcher.
        spec_of: values and a state folder -> what to fit.
        metric: the monitored one.
        params: of tune.
        work: what a trial does; `fit` by default.
        population: where later trials go on from earlier ones.

    Returns:
        What ended the search: trials, time or epochs.

    Raises:
        EnvironmentFault: trials do not fit the cluster, or none could start in time.
    """
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    concurrency = at_once(params, nodes)
    log = study.journal.log
    if params.searcher == "grid" and ask(params.trials, []) is not None:
        log(
            f"the grid has more than {params.trials} combinations: "
            f"the first {params.trials} are run (tune.trials)"
        )
    numbers = _numbers(study, ask, params)
    wanted = len(numbers)
    log(study.welcome(wanted))
    recorder = Recorder(study, params, wanted, population)
    missing = _not_ended(study, numbers)
    is_lost = population is not None and population.lost(study.trials)
    if missing and not recorder.stop_all() and not is_lost:
        log(f"{wanted} trials, {min(concurrency, len(missing))} at once")
        plan = forecast(params, wanted)
        if plan:
            log(plan)
        replayed = []
        if params.scheduler not in ("none", "pbt"):
            replayed = [number for number in numbers if number not in missing]
        queue = _Queue(study, ask, spec_of, replayed, missing, population)
        _run(concurrency, study, queue, metric, params, recorder, work or _fit)
    if recorder.fault:
        raise recorder.fault
    if not _not_ended(study, numbers):
        return "trials"
    budget = recorder.ended_by()
    if not budget:
        return "trials"
    log(
        f"the search ended by its budget of {budget}: "
        "trials that were running count as stopped, the rest were not begun"
    )
    return budget


def _numbers(study: Study, ask: SuggestParams, params: TuneParams) -> list[int]:
    """Return the numbers of all trials; a grid may have fewer combinations than `tune.trials`."""
    numbers = []
    for number in range(params.numbers):
        is_begun = number in study.trials
        if is_begun or params.searcher != "grid" or ask(number, []) is not None:
            numbers.append(number)
    return numbers


def _not_ended(study: Study, numbers: Sequence[int]) -> list[int]:
    """Return the numbers of the trials that have not ended."""
    missing = []
    for number in numbers:
        trial = study.trials.get(number)
        if trial is None or trial.outcome is None:
            missing.append(number)
    return missing


def _run(
    concurrency: int,
    study: Study,
    queue: _Queue,
    metric: MonitoredMetric,
    params: TuneParams,
    recorder: Recorder,
    work: Work,
) -> None:
    """Run the trials of a queue with Ray Tune."""
    storage = study.state / "ray"
    # The record of an earlier run could contradict the study.
    remove_tree(storage, within=study.state)
    _configure_tune(params, concurrency)
    bundle = {"CPU": params.cpus_per_trial, "GPU": params.gpus_per_trial}
    resources = tune.PlacementGroupFactory([bundle] * params.workers_per_trial)
    trainable = tune.with_parameters(_trial, work=work, metric=metric)
    tuner = tune.Tuner(
        tune.with_resources(trainable, resources),
        tune_config=tune.TuneConfig(
            search_alg=queue,
            scheduler=make_scheduler(params, metric),
            num_samples=-1,
            reuse_actors=True,
            trial_dirname_creator=_trial_folder,
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


def _configure_tune(params: TuneParams, concurrency: int) -> None:
    """Set the environment variables of Ray Tune."""
    # A trial that fails before its first epoch has no metric.
    os.environ["TUNE_DISABLE_STRICT_METRIC_CHECKING"] = "1"
    # CSV, JSON and TensorBoard files of each trial: the study is the record.
    os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"
    # Trials that are asked for before they can start. A searcher that learns is asked late.
    pending = str(concurrency + 1)
    if params.searcher == "optuna":
        pending = "2"
    os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = pending
    # For statistics of its use, which are off, Ray would import MLflow. That takes 1.3 s.
    usage.tag_callbacks = lambda _: False
    # It warns that the files of the trials are missing.
    logging.getLogger("ray.tune.analysis.experiment_analysis").setLevel(logging.ERROR)


def _trial_folder(trial: Any) -> str:
    """Return the name of a trial's folder in Ray's record."""
    return f"{trial.config['number']:04d}-{trial.trial_id}"


class _Queue(Searcher):
    """Searcher that gives Tune one trial after the other.

    First are those that have ended, since the scheduler needs their rows. Then come those that
    were interrupted, and new ones.

    Args:
        study: of the search.
        ask: the searcher of values.
        spec_of: values and a state folder -> what to fit.
        ended: numbers of trials that have ended.
        missing: numbers of the others.
        population: where later trials go on from earlier ones.
    """

    def __init__(
        self,
        study: Study,
        ask: SuggestParams,
        spec_of: Callable[[Values, Path], FitConfig],
        ended: list[int],
        missing: list[int],
        population: Population | None,
    ) -> None:
        super().__init__()
        self.study = study
        self.ask = ask
        self.spec_of = spec_of
        self.population = population
        interrupted = [number for number in sorted(missing) if number in study.trials]
        new = [number for number in sorted(missing) if number not in study.trials]
        self.left = [*ended, *interrupted, *new]

    def suggest(self, trial_id: str) -> Any:  # noqa: ARG002
        """Return the config of the next trial; None if it cannot begin yet."""
        if not self.left:
            return Searcher.FINISHED
        if self.population:
            return self._suggest_member(self.left[0], self.population)
        number = self.left.pop(0)
        trial = self.study.trials.get(number) or self._new(number)
        return {
            "number": number,
            "spec": self.spec_of(trial.values, self.study.folder(number)),
            "replay": trial.rows if trial.outcome else None,
            "parent": None,
            "inherited": 0,
        }

    def _suggest_member(self, number: int, population: Population) -> Any:
        """Return the config of a trial of a population, once the generation before has ended.

        With None, Tune asks again later.
        """
        if not population.ready(number, self.study.trials):
            return None
        parent = None
        if population.generation(number):
            born = population.born(number, self.study.trials)
            if born is None:
                return Searcher.FINISHED
            parent_number, values = born
            parent = self.study.folder(parent_number)
            if number not in self.study.trials:
                self.study.begin(number, values)
        trial = self.study.trials.get(number) or self._new(number)
        self.left.pop(0)
        spec = self.spec_of(trial.values, self.study.folder(number))
        return {
            "number": number,
            "spec": replace(spec, until=population.until(number)),
            "replay": None,
            "parent": parent,
            "inherited": population.inherited(number),
        }

    def _new(self, number: int) -> Trial:
        """Begin a new trial and return it."""
        earlier = [trial for _, trial in sorted(self.study.trials.items())]
        values = self.ask(number, earlier)
        assert values is not None, "numbers beyond the grid are never queued"
        return self.study.begin(number, values)

    def on_trial_complete(
        self,
        trial_id: str,
        result: dict[str, Any] | None = None,
        error: bool = False,
    ) -> None:
        """Do nothing: the recorder has written the trial to the study."""

    def save_to_dir(self, checkpoint_dir: str, session_str: str = "default") -> None:
        """Do nothing: the study is the record."""


def _trial(config: dict[str, Any], work: Work, metric: MonitoredMetric) -> None:
    """Run one trial, in a Tune worker.

    An error of the trial is its outcome. Tune only sees that a worker died.

    Args:
        config: of `_Queue.suggest`.
        work: what a trial does.
        metric: the monitored one.
    """
    os.environ["TUNE_FUNCTION_THREAD_TIMEOUT_S"] = _STOP_TIMEOUT_S
    spec: FitConfig = config["spec"]
    last: dict[str, Any] = {}
    is_stopped = False
    inherited = config["inherited"]

    def report(row: Mapping[str, float]) -> None:
        """Report the row of an epoch to Tune, unless the trial has inherited the epoch.

        Raises:
            SystemExit: Tune has stopped the trial.
        """
        nonlocal is_stopped
        if row["epoch"] <= inherited:
            return
        last.update({"epoch": row["epoch"], metric.name: row[metric.name], "row": dict(row)})
        try:
            tune.report(dict(last))
        except SystemExit:
            # Tune has stopped the trial.
            is_stopped = True
            raise

    if config["replay"] is not None:
        for row in config["replay"]:
            report(row)
        return
    # Its worker died after the trial had ended, and Tune has begun it again.
    if (spec.state / FAILURE).exists() or (spec.state / OUTCOME).exists():
        return
    memory_record = spec.memory_record
    try:
        if config["parent"]:
            inherit(config["parent"], spec.state)
        work(spec, report)
    except Exception as error:
        # After a stop no error is of interest. Any end but this one would leave the worker waiting
        # for ever.
        if is_stopped:
            raise SystemExit(0) from error
        # A worker was lost, or had too little memory: all workers begin anew.
        if isinstance(error, RayActorError) or spec.memory_record != memory_record:
            raise
        lines = str(error).strip().splitlines() or ["no message"]
        write_atomic(spec.state / FAILURE, to_json(f"{type(error).__name__}: {lines[0]}"))


def _fit(spec: FitConfig, report: Callable[[Mapping[str, float]], None]) -> None:
    """Fit a trial: with DDP if it has several workers."""
    import torch

    from components.stages.tune.multi_worker_trial import fit_together
    from components.training.loop import fit

    if spec.params.workers > 1:
        fit_together(spec, report)
        return
    torch.set_num_threads(1)
    fit(spec, report=report)
