"""Trials of earlier searches, read back from MLflow. A new search may begin with them."""

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

# the number of trials at most, the best ones
_MOST = 1000


@dataclass(frozen=True)
class LoggedTrial:
    """A trial as MLflow has it."""

    search: str  # the run of the stage that it was a trial of
    params: Mapping[str, str]  # values as text


def best_trials(
    root: Path, pipeline: str, task: str, stage: str, metric: str, goal: str, patience: float = 30.0
) -> list[LoggedTrial]:
    """Return the trials of a task that have the metric, the best first, 1000 at most.

    Nothing is made or changed in the store. MLflow orders runs by the last value of a curve, so a
    trial is ranked by where it ended, and not by its best value. One call is enough for any number
    of trials.

    Args:
        root: the project.
        pipeline: names the experiment.
        task: id.
        stage: whose trials.
        metric: the name of the curve, as the stage reports it.
        goal: min or max.
        patience: seconds to wait for the store.

    Raises:
        EnvironmentFault: the store did not answer, or not in time.
    """
    trials: list[LoggedTrial] = []
    faults: list[Exception] = []

    def read_all() -> None:
        try:
            with reached(root):
                trials.extend(_read_trials(root, pipeline, task, stage, logged_name(metric), goal))
        except Exception as error:
            faults.append(error)

    thread = threading.Thread(target=read_all, daemon=True)
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
    # refused: no search fails for it
    if faults:
        reason = (str(faults[0]).strip().splitlines() or [""])[0][:200]
        raise EnvironmentFault(
            f"MLflow refused: {type(faults[0]).__name__}: {reason}",
            where=tracking_uri(root),
            remedy="gristmill doctor",
        ) from faults[0]
    return trials


def _read_trials(
    root: Path, pipeline: str, task: str, stage: str, metric: str, goal: str
) -> list[LoggedTrial]:
    path = database(root)
    # the first run of all: the mirror is just making the database
    if path and not path.is_file():
        return []
    opened = client(root)
    experiment = opened.get_experiment_by_name(pipeline)
    if experiment is None or experiment.lifecycle_stage == "deleted":
        return []
    query = (
        f"tags.task = '{task}' and tags.`gristmill.stage` = '{stage}' "
        f"and tags.`{CHILD}` LIKE 'trial-%'"
    )
    direction = "DESC" if goal == "max" else "ASC"
    runs = opened.search_runs(
        [experiment.experiment_id],
        query,
        max_results=_MOST,
        order_by=[f"metrics.`{metric}` {direction}"],
    )
    return [
        LoggedTrial(run.data.tags.get(PARENT, ""), run.data.params)
        for run in runs
        if math.isfinite(run.data.metrics.get(metric, math.nan))
    ]
