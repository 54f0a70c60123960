"""The account of a search: what its scheduler did, and the curve of every trial. The report draws it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from components.stages.tune.params import TuneParams
from components.stages.tune.population import Population
from components.stages.tune.schedulers import forecast
from components.stages.tune.study import Trial, Watched


def account(
    trials: Sequence[Trial],
    params: TuneParams,
    watched: Watched,
    ended_by: str,
    population: Population | None = None,
) -> dict[str, Any]:
    """What `reports/search.json` holds.

    Args:
        trials: that have ended, in the order of their numbers.
        ended_by: trials, time or epochs.
        population: under pbt a trial is a stretch of a member, and "parent" is the one that it went on from.
    """
    parents = population.lineage(trials) if population else {}
    told = population.told(trials) if population else trials
    return {
        "watch": watched.name,
        "goal": watched.goal,
        "searcher": params.searcher,
        "scheduler": params.scheduler,
        "ended_by": ended_by,
        "forecast": forecast(params, len(trials)),
        "rungs": population.rungs(told) if population else rungs(trials),
        "trials": [
            _row(trial, watched) | ({"parent": parents[trial.number]} if population else {})
            for trial in told
        ],
    }


def _row(trial: Trial, watched: Watched) -> dict[str, Any]:
    return {
        "trial": trial.number,
        "params": trial.values,
        "curve": [row[watched.name] for row in trial.rows],
        "status": trial.outcome,
    }


def rungs(trials: Sequence[Trial]) -> list[dict[str, int]]:
    """How many trials reached an epoch, and what became of them there: a row for each epoch (0: before the first) after which one ended."""
    table = []
    for epoch in sorted({len(trial.rows) for trial in trials}):
        ends = Counter(str(trial.outcome) for trial in trials if len(trial.rows) == epoch)
        reached = sum(len(trial.rows) >= epoch for trial in trials)
        table.append(
            {
                "epoch": epoch,
                "reached": reached,
                "went_on": reached - ends.total(),
                **{kind: ends[kind] for kind in ("stopped", "finished", "failed")},
            }
        )
    return table
