"""Record of a search: what its scheduler did, and the curve of each trial."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from components.stages.tune.params import TuneParams
from components.stages.tune.population import Population
from components.stages.tune.schedulers import forecast
from components.stages.tune.study import MonitoredMetric, Trial


def account(
    trials: Sequence[Trial],
    params: TuneParams,
    metric: MonitoredMetric,
    ended_by: str,
    population: Population | None = None,
) -> dict[str, Any]:
    """Return the content of `reports/search.json`.

    Args:
        trials: that have ended, in the order of their numbers.
        params: of tune.
        metric: the monitored one.
        ended_by: trials, time or epochs.
        population: under pbt. Then a trial covers some epochs of a member, and "parent" is the
            trial that it went on from.
    """
    if population:
        shown: Sequence[Trial] = population.trials_for_report(trials)
        parents = population.lineage(trials)
        rows = [_row(trial, metric) | {"parent": parents[trial.number]} for trial in shown]
        table = population.rungs(shown)
    else:
        rows = [_row(trial, metric) for trial in trials]
        table = rungs(trials)
    return {
        "watch": metric.name,
        "goal": metric.goal,
        "searcher": params.searcher,
        "scheduler": params.scheduler,
        "ended_by": ended_by,
        "forecast": forecast(params, len(trials)),
        "rungs": table,
        "trials": rows,
    }


def _row(trial: Trial, metric: MonitoredMetric) -> dict[str, Any]:
    """Return the record of a trial."""
    return {
        "trial": trial.number,
        "params": trial.values,
        "curve": [row[metric.name] for row in trial.rows],
        "status": trial.outcome,
    }


def rungs(trials: Sequence[Trial]) -> list[dict[str, int]]:
    """Return how many trials reached an epoch, and how many ended there.

    Args:
        trials: that have ended.

    Returns:
        A row for each epoch after which a trial ended; 0 is before the first epoch.
    """
    table = []
    for epoch in sorted({len(trial.rows) for trial in trials}):
        reached = [trial for trial in trials if len(trial.rows) >= epoch]
        outcomes = Counter(str(trial.outcome) for trial in reached if len(trial.rows) == epoch)
        table.append(
            {
                "epoch": epoch,
                "reached": len(reached),
                "went_on": len(reached) - outcomes.total(),
                "stopped": outcomes["stopped"],
                "finished": outcomes["finished"],
                "failed": outcomes["failed"],
            }
        )
    return table
