"""Run a fit of one worker as a Ray task, without Ray Train.

The start of Ray Train takes longer than many short fits. The loop's checkpoints are the state
here too, and errors are handled in the same way.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from components.core.errors import EnvironmentFault
from components.core.garbage import collect_rarely
from components.core.job import Journal
from components.training.fit_config import FitConfig

_POLL_S = 0.5
_REPORT_S = 3.0


def fit_alone(
    spec: FitConfig,
    journal: Journal,
    *,
    unit: str,
    go_on: Callable[[BaseException], bool],
    wait_s: float,
) -> None:
    """Run `fit` in one Ray task until it is complete.

    Args:
        spec: the fit.
        journal: where the fit reports.
        unit: the resource that the task holds one of: CPU or GPU.
        go_on: called with an error. It returns whether to restart at the last checkpoint.
        wait_s: seconds to wait for a free unit.

    Raises:
        RayError: the error that ended the task, when `go_on` returns False.
        EnvironmentFault: no unit became free in time.
    """
    import ray
    from ray.exceptions import RayError

    resources: dict[str, Any] = {"num_gpus": 1} if unit == "GPU" else {"num_cpus": 1}
    task: Any = ray.remote(max_retries=0, **resources)(_work)
    while True:
        _wait_for_room(unit, wait_s, journal.log)
        try:
            ray.get(task.remote(spec, str(journal.path), time.time()))
        except RayError as error:
            if not go_on(error):
                raise
        else:
            return


def _wait_for_room(unit: str, wait_s: float, log: Callable[[str], None]) -> None:
    """Return when a unit is free.

    Raises:
        EnvironmentFault: no unit became free in time. A task would wait without end.
    """
    import ray

    start = time.monotonic()
    reported = False
    while ray.available_resources().get(unit, 0) < 1:
        waited = time.monotonic() - start
        if waited > wait_s:
            remedy = "free or add nodes, then the same command goes on from the last checkpoint"
            raise EnvironmentFault(
                f"the cluster had no free {unit} for {wait_s:.0f} s",
                where="train.workers",
                remedy=remedy,
            )
        if waited >= _REPORT_S and not reported:
            log(f"the cluster has no free {unit}: waiting up to {wait_s:.0f} s for one")
            reported = True
        time.sleep(_POLL_S)


def _work(spec: FitConfig, journal_path: str, called: float) -> None:
    """Run the fit in the Ray task."""
    collect_rarely()
    import torch

    from components.training.loop import fit

    # The worker holds one CPU. More threads would also change the last bits of sums.
    torch.set_num_threads(1)
    journal = Journal(Path(journal_path))
    name = f"startup_seconds_{spec.state.name.split('-')[0]}"
    journal.metrics({name: time.time() - called}, step=0)
    fit(spec, journal)
