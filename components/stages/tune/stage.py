"""tune: a search over train's own knobs, then the best is refitted as train does; under pbt the best member is taken as it is."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from components.core.errors import EnvironmentFault, InputError
from components.core.files import to_json, write_atomic
from components.core.job import Job
from components.core.skipped import report_skipped
from components.stages.tune.params import TuneParams
from components.stages.tune.population import Population
from components.stages.tune.search_space import Values, settled
from components.stages.tune.searchers import asker
from components.stages.tune.study import Study, Trial, Watched
from components.stages.tune.warm_start import before, first_tried
from components.tasks import base
from components.training.bundle_writer import save_torch
from components.training.distributed import fit_distributed
from components.training.fit_config import FitConfig, FitResult, check
from components.training.params import FitParams


def run(job: Job) -> None:
    """Write `models/tuned/network`, the table of trials, the account of the search and the report; without trials only that there was no search."""
    if job.params.trials:
        _search(job)
    else:
        _skip(job)


def _skip(job: Job) -> None:
    """Write the outputs of a search that `tune.trials: 0` switches off. Imports neither torch nor Ray Tune."""
    setting = "tune.trials is 0"
    report_skipped(job, {"search": setting}, job.outputs["tuned"], {"search": "tune.trials: 8"})
    write_atomic(job.outputs["trials"], "trial,epochs,outcome\n")
    write_atomic(job.outputs["search"], to_json({"skipped": setting, "trials": []}))
    write_atomic(job.outputs["report"], to_json({"trials": 0, "skipped": setting}))


def _search(job: Job) -> None:
    from components.stages.tune.search import search
    from components.stages.tune.search_report import account

    params: TuneParams = job.params
    learning = base.learning(job.task)
    watched = Watched(f"validation_{learning.monitored_metric}", learning.watch_goal)
    for name in (
        params.space["architecture"].values() if "architecture" in params.space else None
    ) or [None]:
        check(_spec(job, True, {"architecture": name} if name else {}, job.state))
    train: Any = job.sections["train"]
    if train.pretrain.epochs:
        job.journal.log(
            "the search and its refit start from scratch: train.pretrain is for train alone"
        )
    study = Study(job)
    strictest = train.model_copy(
        update={"workers": max(train.workers, params.workers_per_trial)}
    )  # a batch must do for the trial and for the refit
    ask = before(
        first_tried(study, job, strictest, watched),
        asker(params, strictest, job.seed, watched),
        strictest,
    )
    population = (
        Population(params, strictest, job.seed, watched) if params.scheduler == "pbt" else None
    )
    ended_by = search(study, ask, partial(_spec, job, True), watched, params, population=population)
    trials = ended(study.first(params.numbers), ended_by)
    best = winner(population.candidates(trials) if population else trials, watched)
    figure, shown = (
        watched.best(best.rows),
        ", ".join(f"{name}={_short(value)}" for name, value in best.values.items()),
    )
    job.journal.log(
        f"best of {len(trials)} trials: {best.number} with {watched.name.replace('_', ' ')} {figure:.4f} ({shown}); {'its weights are taken' if population else 'refitting it'}"
    )
    if population:
        spec = _spec(job, True, best.values, study.folder(best.number))
        fitted, origin = _left(spec), ["tune", "pbt"]
    else:
        spec = _spec(
            job,
            False,
            best.values,
            job.state / f"refit-{hashlib.sha256(to_json(best.values).encode()).hexdigest()[:12]}",
        )
        fitted, origin = fit_distributed(spec, job.journal), ["tune"]
    save_torch(
        job.outputs["tuned"] / "network",
        spec,
        fitted.weights.read_bytes(),
        job.tags["params_hash"],
        origin,
    )
    told = population.told(trials) if population else trials
    write_atomic(job.outputs["trials"], table(told, watched))
    write_atomic(
        job.outputs["search"], to_json(account(trials, params, watched, ended_by, population))
    )
    report = {
        "trials": len(trials),
        "trials_stopped_early": sum(trial.outcome == "stopped" for trial in told),
        "trials_failed": sum(trial.outcome == "failed" for trial in trials),
        "epochs_of_all_trials": sum(len(trial.rows) for trial in trials),
        "searcher": params.searcher,
        "scheduler": params.scheduler,
        "ended_by": ended_by,
        f"best_trial_{watched.name}": figure,
        "architecture": spec.architecture,
        "parameters": fitted.parameters,
    } | ({} if population else {f"refit_{watched.name}": fitted.best[watched.name]})
    write_atomic(job.outputs["report"], to_json(report))
    if population:  # its weights and checkpoints go with the state, so there is nothing that a later search could go on with
        return
    study.close()
    job.journal.log(
        f"refitted, workers {fitted.workers}: {watched.name.replace('_', ' ')} {fitted.best[watched.name]:.4f}"
    )


def _left(spec: FitConfig) -> FitResult:
    """What a member left."""
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
    """The trials of a search that is over: those that a budget has cut count as stopped, or, before their first figure, not at all."""
    silent: dict[str, Any] = (
        {"outcome": "failed", "error": "it ended without a word"}
        if by == "trials"
        else {"outcome": "stopped"}
    )
    return [
        trial if trial.outcome else replace(trial, **silent)
        for trial in trials
        if trial.outcome or trial.rows or by == "trials"
    ]


def winner(trials: list[Trial], watched: Watched) -> Trial:
    """The trial with the best figure; of equal ones the first.

    Raises:
        InputError: none has one.
    """
    if found := [trial for trial in trials if trial.rows]:
        return max(found, key=lambda trial: (max(map(watched.score, trial.rows)), -trial.number))
    if not trials:
        raise InputError(
            "the budget was used up before a trial had its first figure",
            where="tune",
            remedy="raise tune.time_budget_s, then run the same command again",
        )
    remedy = "narrow tune.space, or mend what the message names; gristmill stage tune --fresh tries the same ones again"
    raise InputError(
        f"all {len(trials)} trials failed; the first said: {trials[0].error}",
        where="tune",
        remedy=remedy,
    )


def _spec(job: Job, trial: bool, values: Values, state: Path) -> FitConfig:
    """The fit of a trial (its workers, the search's epochs) or of the refit (all of train's)."""
    params: TuneParams = job.params
    train: Any = settled(job.sections["train"], values)
    fit = {name: getattr(train, name) for name in FitParams.model_fields} | (
        {
            "workers": params.workers_per_trial,
            "min_workers": None,
            "epochs": params.epochs,
            "patience": params.epochs,
        }
        if trial
        else {}
    )
    online: Any = job.sections["augment"]
    config = getattr(train.nets, train.architecture).model_dump()
    return FitConfig(
        job.task,
        job.inputs["tokens"],
        train.architecture,
        config,
        FitParams(**fit),
        online.online.model_dump(),
        job.seed,
        state,
    )


def table(trials: list[Trial], watched: Watched) -> str:
    """CSV: a row per trial."""
    names = sorted({name for trial in trials for name in trial.values})
    lines = [",".join(["trial", watched.name, "epochs", "outcome", *names])]
    for trial in trials:
        best = f"{watched.best(trial.rows):.10g}" if trial.rows else ""
        lines.append(
            ",".join(
                [
                    str(trial.number),
                    best,
                    str(len(trial.rows)),
                    str(trial.outcome),
                    *(_csv(trial.values.get(name)) for name in names),
                ]
            )
        )
    return "\n".join(lines) + "\n"


def _csv(value: Any) -> str:
    text = "" if value is None else value if isinstance(value, str) else json.dumps(value)
    return '"' + text.replace('"', '""') + '"' if "," in text or '"' in text else text


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
