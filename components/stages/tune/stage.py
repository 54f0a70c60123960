"""Stage tune: a search over the params of train.

The best configuration is refitted as train does. Under pbt the best member is used as it is.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from components.core.energy import EnergyMeter
from components.core.errors import EnvironmentFault, InputError
from components.core.files import to_json, write_atomic
from components.core.job import Job
from components.core.skipped_steps import report_skipped
from components.stages.tune.params import TuneParams
from components.stages.tune.population import Population
from components.stages.tune.search_space import Values, with_values
from components.stages.tune.searchers import SuggestParams, asker
from components.stages.tune.study import MonitoredMetric, Study, Trial
from components.stages.tune.warm_start import before, first_tried
from components.tasks import base
from components.training.bundle_writer import save_torch
from components.training.fit_config import FitConfig, FitResult, check, save_params
from components.training.params import FitParams
from components.training.ray_fit import fit_distributed


def run(job: Job) -> None:
    """Write `models/tuned/network`, the table of trials, the record of the search and the report.

    Without trials they only say that there was no search.
    """
    if not job.params.trials:
        _skip(job)
        return
    with EnergyMeter(job.state / "energy.json") as energy:
        report = _search(job)
        report["energy_j"] = energy.joules()
    write_atomic(job.outputs["report"], to_json(report))


def _skip(job: Job) -> None:
    """Write the outputs of a search that `tune.trials: 0` switches off.

    Imports neither torch nor Ray Tune.
    """
    setting = "tune.trials is 0"
    report_skipped(job, {"search": setting}, job.outputs["tuned"], {"search": "tune.trials: 8"})
    write_atomic(job.outputs["trials"], "trial,epochs,outcome\n")
    write_atomic(job.outputs["search"], to_json({"skipped": setting, "trials": []}))
    write_atomic(job.outputs["report"], to_json({"trials": 0, "skipped": setting, "energy_j": 0.0}))


def _search(job: Job) -> dict[str, Any]:
    """Search, fit the best configuration and write the outputs.

    Returns:
        The content of the report.
    """
    from components.stages.tune.search import search
    from components.stages.tune.search_report import account

    params: TuneParams = job.params
    train: Any = job.sections["train"]
    learning = base.learning(job.task)
    metric = MonitoredMetric(f"validation_{learning.monitored_metric}", learning.monitored_goal)
    _check_architectures(job)
    if train.pretrain.epochs:
        job.journal.log(
            "the search and its refit start from scratch: train.pretrain is for train alone"
        )
    study = Study(job)
    # A batch must be large enough for the trial and for the refit.
    workers = max(train.workers, params.workers_per_trial)
    strictest = train.model_copy(update={"workers": workers})
    population = None
    if params.scheduler == "pbt":
        population = Population(params, strictest, job.seed, metric)
    ask = _searcher(job, study, strictest, metric)
    spec_of = partial(_spec, job, True)
    ended_by = search(study, ask, spec_of, metric, params, population=population)
    trials = ended(study.first(params.numbers), ended_by)
    candidates = population.candidates(trials) if population else trials
    best = winner(candidates, metric)
    _log_best(job, best, len(trials), metric, population is not None)
    if population:
        spec = _spec(job, True, best.values, study.folder(best.number))
        fitted = _member_result(spec)
        origin = ["tune", "pbt"]
        shown = population.trials_for_report(trials)
    else:
        spec = _spec(job, False, best.values, _refit_state(job, best.values))
        fitted = fit_distributed(spec, job.journal)
        origin = ["tune"]
        shown = trials
    weights = fitted.weights.read_bytes()
    network = job.outputs["tuned"] / "network"
    save_torch(network, spec, weights, job.tags["params_hash"], origin)
    save_params(spec, job.outputs["tuned"])
    record = account(trials, params, metric, ended_by, population)
    write_atomic(job.outputs["trials"], table(shown, metric))
    write_atomic(job.outputs["search"], to_json(record))
    report = {
        "trials": len(trials),
        "trials_stopped_early": sum(trial.outcome == "stopped" for trial in shown),
        "trials_failed": sum(trial.outcome == "failed" for trial in trials),
        "epochs_of_all_trials": sum(len(trial.rows) for trial in trials),
        "searcher": params.searcher,
        "scheduler": params.scheduler,
        "ended_by": ended_by,
        f"best_trial_{metric.name}": metric.best(best.rows),
        "architecture": spec.architecture,
        "parameters": fitted.parameters,
    }
    if not population:
        report[f"refit_{metric.name}"] = fitted.best[metric.name]
    # The weights and checkpoints of a population are deleted with the state, so a later search
    # could not go on from its study.
    if not population:
        study.close()
        job.journal.log(
            f"refitted, workers {fitted.workers}: {metric.name.replace('_', ' ')} "
            f"{fitted.best[metric.name]:.4f}"
        )
    return report


def _check_architectures(job: Job) -> None:
    """Check a fit of each architecture that the search can draw."""
    space = job.params.space
    architectures = None
    if "architecture" in space:
        architectures = space["architecture"].values()
    for name in architectures or [None]:
        values = {"architecture": name} if name else {}
        check(_spec(job, True, values, job.state))


def _searcher(job: Job, study: Study, train: Any, metric: MonitoredMetric) -> SuggestParams:
    """Return the searcher of values, after those of a warm start."""
    first = first_tried(study, job, train, metric)
    return before(first, asker(job.params, train, job.seed, metric), train)


def _log_best(
    job: Job,
    best: Trial,
    count: int,
    metric: MonitoredMetric,
    is_member: bool,
) -> None:
    """Log the best of all trials.

    Args:
        job: tune.
        best: the trial.
        count: number of trials.
        metric: the monitored one.
        is_member: whether it is of a population.
    """
    value = metric.best(best.rows)
    params = ", ".join(f"{name}={_short(value)}" for name, value in best.values.items())
    following = "its weights are taken" if is_member else "refitting it"
    job.journal.log(
        f"best of {count} trials: {best.number} with {metric.name.replace('_', ' ')} "
        f"{value:.4f} ({params}); {following}"
    )


def _refit_state(job: Job, values: Values) -> Path:
    """Return the state folder of the refit of some values."""
    digest = hashlib.sha256(to_json(values).encode()).hexdigest()
    return job.state / f"refit-{digest[:12]}"


def _member_result(spec: FitConfig) -> FitResult:
    """Return the result of a member of a population.

    Raises:
        EnvironmentFault: it has no weights.
    """
    from components.training.loop import finished

    fitted = finished(spec)
    if fitted is None:
        raise EnvironmentFault(
            "the best member left no weights: not all nodes see the state folder",
            where=str(spec.state),
            remedy="set cluster.storage to a folder that all nodes share",
        )
    return fitted


def ended(trials: list[Trial], by: str) -> list[Trial]:
    """Return the trials of a search that is over, all with an outcome.

    Trials that a budget has interrupted count as stopped, or if they have no metric yet, not at
    all.

    Args:
        trials: that have begun.
        by: what ended the search.
    """
    result = []
    for trial in trials:
        if trial.outcome:
            result.append(trial)
        elif by == "trials":
            result.append(replace(trial, outcome="failed", error="it ended without a word"))
        elif trial.rows:
            result.append(replace(trial, outcome="stopped"))
    return result


def winner(trials: list[Trial], metric: MonitoredMetric) -> Trial:
    """Return the trial with the best metric; of equal ones the first.

    Args:
        trials: that may win.
        metric: the monitored one.

    Raises:
        InputError: none has one.
    """
    measured = [trial for trial in trials if trial.rows]
    if measured:

        def rank(trial: Trial) -> tuple[float, int]:
            """Return the sort key of a trial: its best score, then the lower number."""
            return max(map(metric.score, trial.rows)), -trial.number

        return max(measured, key=rank)
    if not trials:
        raise InputError(
            "the budget was used up before a trial had its first figure",
            where="tune",
            remedy="raise tune.time_budget_s, then run the same command again",
        )
    raise InputError(
        f"all {len(trials)} trials failed; the first said: {trials[0].error}",
        where="tune",
        remedy="narrow tune.space, or mend what the message names; "
        "gristmill stage tune --fresh tries the same ones again",
    )


def _spec(job: Job, trial: bool, values: Values, state: Path) -> FitConfig:
    """Return the fit of a trial or of the refit.

    A trial has its own workers and the search's epochs. The refit has those of train.

    Args:
        job: tune.
        trial: whether it is a trial.
        values: path below `train` -> value.
        state: state folder of the fit.
    """
    params: TuneParams = job.params
    train: Any = with_values(job.sections["train"], values)
    fit = {name: getattr(train, name) for name in FitParams.model_fields}
    if trial:
        fit["workers"] = params.workers_per_trial
        fit["min_workers"] = None
        fit["epochs"] = params.epochs
        fit["patience"] = params.epochs
    augment: Any = job.sections["augment"]
    config = getattr(train.nets, train.architecture).model_dump()
    return FitConfig(
        job.task,
        job.inputs["tokens"],
        train.architecture,
        config,
        FitParams(**fit),
        augment.online.model_dump(),
        job.seed,
        state,
        loss_params=base.loss_params_of(job.task, train),
    )


def table(trials: list[Trial], metric: MonitoredMetric) -> str:
    """Return a table of the trials as CSV.

    The column `monitored_metric` has the same name for all tasks: the plot in dvc.yaml needs one.

    Args:
        trials: that have ended.
        metric: the monitored one.
    """
    names: set[str] = set()
    for trial in trials:
        names.update(trial.values)
    columns = sorted(names)
    lines = [",".join(["trial", "monitored_metric", metric.name, "epochs", "outcome", *columns])]
    for trial in trials:
        best = f"{metric.best(trial.rows):.10g}" if trial.rows else ""
        cells = [str(trial.number), best, best, str(len(trial.rows)), str(trial.outcome)]
        cells += [_csv(trial.values.get(name)) for name in columns]
        lines.append(",".join(cells))
    return "\n".join(lines) + "\n"


def _csv(value: Any) -> str:
    """Return a value as a CSV field, quoted if it must be."""
    if value is None:
        return ""
    text = value if isinstance(value, str) else json.dumps(value)
    if "," not in text and '"' not in text:
        return text
    return '"' + text.replace('"', '""') + '"'


def _short(value: Any) -> str:
    """Return a value as text; a float with three digits."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)
