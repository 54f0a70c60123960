"""Ray Tune around the loop. What a trial found lies in its own folder, so a killed search computes no epoch twice."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from components.core.errors import EnvironmentFault
from components.core.files import to_json, write_atomic
from components.core.job import Job, Journal
from components.engine.spec import FitSpec
from components.tasks import base
from components.tune.params import TuneParams

_ROWS, _OUTCOME = "rows.json", "outcome.json"


@dataclass(frozen=True)
class Trial:
    """What became of a trial: a row of figures per epoch, and how it ended."""

    number: int
    values: dict[str, Any]
    rows: list[dict[str, float]]
    outcome: Literal["finished", "stopped", "failed"]
    error: str = ""


def search(specs: list[FitSpec], values: list[dict[str, Any]], params: TuneParams, job: Job) -> list[Trial]:
    """Run the trials under ASHA (Li et al. 2020, arXiv:1810.05934).

    A trial with an outcome replays its figures, so that the scheduler knows them, and computes nothing; one that was cut off goes on from its checkpoint.
    """
    from ray import tune
    from ray.tune.schedulers import AsyncHyperBandScheduler

    learning = base.learning(job.task)
    _check_room(params)
    before = sum((spec.state / _OUTCOME).exists() for spec in specs)
    if before:
        job.journal.say(f"{before} of {len(specs)} trials are finished already and are not run again")
    scheduler = AsyncHyperBandScheduler(
        time_attr="epoch", metric=f"validation_{learning.watch}", mode=learning.watch_goal, max_t=params.epochs, grace_period=params.grace_epochs, reduction_factor=params.reduction_factor
    )
    storage = job.state / "ray"
    shutil.rmtree(storage, ignore_errors=True)  # Ray's own record of the search: ours is complete, and two truths would be one too many
    tuner = tune.Tuner(
        tune.with_resources(tune.with_parameters(_trial, specs=specs, values=values, journal=str(job.journal.path)), {"cpu": params.cpus_per_trial}),
        param_space={"number": tune.grid_search(list(range(len(specs))))},
        tune_config=tune.TuneConfig(scheduler=scheduler, reuse_actors=True),
        run_config=tune.RunConfig(name="search", storage_path=str(storage), verbose=0, callbacks=[_recorder(specs, job.journal)]),
    )
    tuner.fit()
    shutil.rmtree(storage, ignore_errors=True)
    return [_read(number, spec.state, values[number]) for number, spec in enumerate(specs)]


def _trial(config: dict[str, Any], specs: list[FitSpec], values: list[dict[str, Any]], journal: str) -> None:
    """One trial, in a Tune worker."""
    import torch
    from ray import tune

    from components.engine.loop import fit

    number = config["number"]
    spec, log, name = specs[number], Journal(Path(journal)), f"trial-{number:04d}"
    torch.set_num_threads(1)
    rows: list[dict[str, float]] = json.loads((spec.state / _ROWS).read_text()) if (spec.state / _ROWS).exists() else []
    over = (spec.state / _OUTCOME).exists()
    if not rows:
        log.params(values[number] | {"architecture": spec.architecture}, child=name)
    if over:
        for row in rows:
            tune.report(dict(row))
        return

    def report(row: Any) -> None:
        if row["epoch"] > len(rows):
            rows.append(dict(row))
            write_atomic(spec.state / _ROWS, to_json(rows))
            log.metrics(row, step=int(row["epoch"]), child=name)
        tune.report(dict(row))

    fit(spec, report=report)


def _recorder(specs: list[FitSpec], journal: Journal) -> Any:
    """Writes how each trial ended, in the driver, at the moment that Tune decides it."""
    from ray.tune import Callback

    class Recorder(Callback):
        def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:  # noqa: ARG002
            number = trial.config["number"]
            path = specs[number].state / _OUTCOME
            if not path.exists():
                ended = int(trial.last_result.get("epoch", 0)) >= specs[number].knobs.epochs
                write_atomic(path, to_json({"outcome": "finished" if ended else "stopped"}))
            self._tell()

        def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:  # noqa: ARG002
            number = trial.config["number"]
            reason = str(trial.get_pickled_error() or "").strip().splitlines()[-1:] or ["no message"]
            write_atomic(specs[number].state / _OUTCOME, to_json({"outcome": "failed", "error": reason[0]}))
            journal.say(f"trial {number} failed: {reason[0]}")
            self._tell()

        def _tell(self) -> None:
            journal.progress(sum((spec.state / _OUTCOME).exists() for spec in specs), len(specs), "trials")

    return Recorder()


def _read(number: int, state: Path, values: dict[str, Any]) -> Trial:
    rows = json.loads((state / _ROWS).read_text()) if (state / _ROWS).exists() else []
    outcome: dict[str, Any] = json.loads((state / _OUTCOME).read_text()) if (state / _OUTCOME).exists() else {"outcome": "failed", "error": "it ended without a word"}
    return Trial(number, values, rows, outcome["outcome"], outcome.get("error", ""))


def _check_room(params: TuneParams) -> None:
    """A trial that fits no cluster would wait for ever."""
    import ray

    cpus = ray.cluster_resources().get("CPU", 0)
    if params.cpus_per_trial > cpus:
        raise EnvironmentFault(
            f"a trial asks for {params.cpus_per_trial} CPUs, the cluster has {cpus:.0f}: it would wait for ever", where="tune.cpus_per_trial", remedy="lower it, or use a larger cluster"
        )
