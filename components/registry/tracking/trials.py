"""Trials of earlier searches, read back from MLflow: what a new search may begin with."""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from components.core.errors import EnvironmentFault
from components.registry.store.tracking_store import (
    client,
    database,
    reached,
    tracking_uri,
)
from components.registry.tracking.mirror import CHILD, PARENT, logged_name

_MOST = 1000  # the best of however many there are


@dataclass(frozen=True)
class Told:
    """A trial as MLflow knows it."""

    search: str  # the run of the stage that it was a trial of
    params: Mapping[str, str]  # values as text


def best_trials(
    root: Path, pipeline: str, task: str, stage: str, metric: str, goal: str, patience: float = 30.0
) -> list[Told]:
    """The trials of a task that have a figure, the best first, 1000 at most. Nothing is made or changed in the store.

    MLflow orders runs by the last figure of a curve, so a trial stands where it ended and not where it was best: one call, however many trials there are.

    Args:
        pipeline: names the experiment.
        stage: whose trials.
        metric: the name of the curve, as the stage reports it.
        goal: min or max.
        patience: seconds to wait for the store.

    Raises:
        EnvironmentFault: the store did not answer, or not in time.
    """
    found: list[Told] = []
    faults: list[Exception] = []

    def look() -> None:
        try:
            with reached(root):
                found.extend(_look(root, pipeline, task, stage, logged_name(metric), goal))
        except Exception as error:
            faults.append(error)

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    thread.join(patience)
    if thread.is_alive():
        raise EnvironmentFault(
            f"MLflow did not answer in {patience:g} s",
            where=tracking_uri(root),
            remedy="check the store, then run the same command again",
        )
    if faults and isinstance(faults[0], EnvironmentFault):
        raise faults[0]
    if faults:  # refused: no search fails for it
        reason = (str(faults[0]).strip().splitlines() or [""])[0][:200]
        raise EnvironmentFault(
            f"MLflow refused: {type(faults[0]).__name__}: {reason}",
            where=tracking_uri(root),
            remedy="gristmill doctor",
        ) from faults[0]
    return found


def _look(root: Path, pipeline: str, task: str, stage: str, metric: str, goal: str) -> list[Told]:
    path = database(root)
    if path and not path.is_file():
        return []  # the first run of all: the mirror is just making it
    opened = client(root)
    experiment = opened.get_experiment_by_name(pipeline)
    if experiment is None or experiment.lifecycle_stage == "deleted":
        return []
    wanted = f"tags.task = '{task}' and tags.`gristmill.stage` = '{stage}' and tags.`{CHILD}` LIKE 'trial-%'"
    order = [f"metrics.`{metric}` {'DESC' if goal == 'max' else 'ASC'}"]
    runs = opened.search_runs([experiment.experiment_id], wanted, max_results=_MOST, order_by=order)
    return [
        Told(run.data.tags.get(PARENT, ""), run.data.params)
        for run in runs
        if math.isfinite(run.data.metrics.get(metric, math.nan))
    ]
