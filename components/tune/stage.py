"""tune: random search with early stopping over train's own knobs, then the best is refitted as train does."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from components.core.errors import InputError
from components.core.files import to_json, write_atomic
from components.core.job import Job
from components.engine.distributed import fit_distributed
from components.engine.params import FitParams
from components.engine.save import save_torch
from components.engine.spec import FitSpec
from components.tasks import base
from components.tune.params import TuneParams
from components.tune.search import Trial, search
from components.tune.space import draw, settled


def run(job: Job) -> None:
    """Write `models/tuned/network`, the table of trials and the report."""
    params: TuneParams = job.params
    train: Any = job.sections["train"]
    drawn = [draw(params.space, train, job.seed, number) for number in range(params.trials)]
    specs = [_spec(job, values, job.state / "trials" / f"{number:04d}", trial=True) for number, values in enumerate(drawn)]
    trials = search(specs, drawn, params, job)
    learning = base.learning(job.task)
    watch, sign = f"validation_{learning.watch}", 1 if learning.watch_goal == "max" else -1
    finished = [trial for trial in trials if trial.rows]
    if not finished:
        raise InputError(f"all {len(trials)} trials failed; the first said: {trials[0].error}", where="tune", remedy="narrow tune.space, or mend what the message names")
    best = max(finished, key=lambda trial: (max(sign * row[watch] for row in trial.rows), -trial.number))
    figure = max((row[watch] for row in best.rows), key=lambda value: sign * value)
    job.journal.say(f"best of {len(trials)} trials: {best.number} with {watch.replace('_', ' ')} {figure:.4f} ({', '.join(f'{k}={_short(v)}' for k, v in best.values.items())}); refitting it")
    spec = _spec(job, best.values, job.state / f"refit-{hashlib.sha256(to_json(best.values).encode()).hexdigest()[:12]}", trial=False)
    fitted = fit_distributed(spec, job.journal)
    save_torch(job.outputs["tuned"] / "network", spec, fitted.weights.read_bytes(), job.tags["params_hash"], ["tune"])
    write_atomic(job.outputs["trials"], _table(trials, watch, sign))
    report = {
        "trials": len(trials),
        "trials_stopped_early": sum(trial.outcome == "stopped" for trial in trials),
        "trials_failed": sum(trial.outcome == "failed" for trial in trials),
        "epochs_of_all_trials": sum(len(trial.rows) for trial in trials),
        f"best_trial_{watch}": figure,
        f"refit_{watch}": fitted.best[watch],
        "architecture": spec.architecture,
        "parameters": fitted.parameters,
    }
    write_atomic(job.outputs["report"], to_json(report))
    job.journal.say(f"refitted on {fitted.world} workers: {watch.replace('_', ' ')} {fitted.best[watch]:.4f}")


def _spec(job: Job, values: dict[str, Any], state: Path, trial: bool) -> FitSpec:
    """The fit of a trial (one worker, the search's epochs) or of the refit (all of train's)."""
    params: TuneParams = job.params
    train: Any = settled(job.sections["train"], values)
    fit = {name: getattr(train, name) for name in FitParams.model_fields} | ({"workers": 1, "epochs": params.epochs, "patience": params.epochs} if trial else {})
    online: Any = job.sections["augment"]
    config = getattr(train.nets, train.architecture).model_dump()
    return FitSpec(job.task, job.inputs["tokens"], train.architecture, config, FitParams(**fit), online.online.model_dump(), job.seed, state)


def _table(trials: list[Trial], watch: str, sign: int) -> str:
    """CSV: a row per trial."""
    names = sorted({name for trial in trials for name in trial.values})
    lines = [",".join(["trial", watch, "epochs", "outcome", *names])]
    for trial in trials:
        best = f"{max((row[watch] for row in trial.rows), key=lambda value: sign * value):.10g}" if trial.rows else ""
        lines.append(",".join([str(trial.number), best, str(len(trial.rows)), trial.outcome, *(_csv(trial.values.get(name)) for name in names)]))
    return "\n".join(lines) + "\n"


def _csv(value: Any) -> str:
    text = "" if value is None else value if isinstance(value, str) else json.dumps(value)
    return '"' + text.replace('"', '""') + '"' if "," in text or '"' in text else text


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
