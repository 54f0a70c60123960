"""Run the training loop on Ray: workers, their process group, restarts after a lost worker.

Several workers run under Ray Train. A single worker runs as a Ray task.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from components.core.errors import EnvironmentFault, GristmillError, InputError, ParamsError
from components.core.garbage import collect_rarely
from components.core.job import Journal
from components.core.parallel_map import has_ray
from components.training.fit_config import MEMORY_FILE, FitConfig, FitResult, check
from components.training.prestart import PrestartedWorkers
from components.training.single_worker import fit_alone

# Restarts without a new checkpoint between them.
_RESTARTS = 2
# Seconds to wait for room for all workers, and seconds until fewer start, if they may.
_WAIT_S = 600.0
_WAIT_FEWER_S = 60.0


def fit_distributed(spec: FitConfig, journal: Journal) -> FitResult:
    """Run `fit` on `spec.params.workers` DDP workers.

    One worker computes the same bytes with and without Ray Train.

    Raises:
        EnvironmentFault: the cluster is too small, so that Ray would wait without end, or the
            workers failed again and again.
        GristmillError: the error that a worker raised.
    """
    check(spec)
    if not has_ray():
        return _fit_here(spec, journal)
    least = spec.params.min_workers or spec.params.workers
    unit = _choose_unit(spec, least)
    if not spec.done.exists():
        if spec.params.workers == 1:
            _train_alone(spec, journal, unit)
        else:
            _train_prestarted(spec, journal, unit, least)
    # This imports torch, so it comes after the workers have run.
    from components.training.loop import finished

    result = finished(spec)
    if result is None:
        raise EnvironmentFault(
            "the workers ended without a result: not all of them see the state folder",
            where=str(spec.state),
            remedy="set cluster.storage to a folder that all nodes share",
        )
    return result


def fits_at_once(workers: int) -> int:
    """Return how many fits of so many workers have room side by side; 1 without Ray."""
    if not has_ray():
        return 1
    import ray

    total = ray.cluster_resources()
    units = total.get("GPU", 0) or total.get("CPU", 0)
    return max(1, int(units) // workers)


def _choose_unit(spec: FitConfig, least: int) -> str:
    """Return the resource that each worker holds one of: CPU or GPU.

    Raises:
        EnvironmentFault: the cluster has fewer than `least`.
    """
    import ray

    total = ray.cluster_resources()
    unit = "GPU" if total.get("GPU", 0) >= least else "CPU"
    if total.get(unit, 0) < least:
        all_are_needed = least == spec.params.workers
        raise EnvironmentFault(
            f"asks for {least} workers of one {unit} each, "
            f"the cluster has {total.get(unit, 0):.0f}",
            where="train.workers" if all_are_needed else "train.min_workers",
            remedy="lower it, or use a larger cluster",
        )
    return unit


def _fit_here(spec: FitConfig, journal: Journal) -> FitResult:
    """Fit in this process: a stage on so little data that it runs without Ray."""
    import torch

    from components.training.loop import fit

    if spec.params.workers > 1:
        raise AssertionError("several workers need Ray")
    # As a worker that holds one CPU: more threads would also change the last bits of sums.
    torch.set_num_threads(1)
    return fit(spec, journal)


def _train_alone(spec: FitConfig, journal: Journal, unit: str) -> None:
    """Run a single worker to its end.

    Raises:
        GristmillError: the error that stopped it.
    """
    from ray.exceptions import RayError

    try:
        fit_alone(spec, journal, unit=unit, go_on=_RestartPolicy(spec.state), wait_s=_WAIT_S)
    except RayError as error:
        raise _cause(error) from None


def _train_prestarted(spec: FitConfig, journal: Journal, unit: str, least: int) -> None:
    """Run several workers to their end, prestarted if the cluster has room for all."""
    import ray

    workers = spec.params.workers
    prestarted = None
    if ray.available_resources().get(unit, 0) >= workers:
        prestarted = PrestartedWorkers(workers, {unit: 1.0})
    try:
        _train(spec, journal, unit, least, prestarted)
    finally:
        if prestarted:
            prestarted.drop()


def _train(
    spec: FitConfig, journal: Journal, unit: str, least: int, prestarted: PrestartedWorkers | None
) -> None:
    """Run several workers under Ray Train to their end.

    Raises:
        GristmillError: the error that stopped them.
    """
    from ray.train import RunConfig, ScalingConfig, TrainingFailedError

    from components.training.process_group import Network
    from components.training.ray_train import Trainer

    most = spec.params.workers
    trainer = Trainer(
        _work,
        train_loop_config={"spec": spec, "journal": str(journal.path), "called": time.time()},
        scaling_config=ScalingConfig(
            num_workers=most if least == most else (least, most),
            use_gpu=unit == "GPU",
            resources_per_worker={unit: 1},
        ),
        backend_config=Network(backend="cpu:gloo,cuda:nccl" if unit == "GPU" else "gloo"),
        run_config=RunConfig(name="fit", storage_path=str(spec.state / "ray")),
        prestarted=prestarted,
        go_on=_RestartPolicy(spec.state),
        wait_s=_WAIT_S if least == most else _WAIT_FEWER_S,
        log=journal.log,
    )
    try:
        trainer.fit()
    except TrainingFailedError as error:
        raise _cause(error) from None


class _RestartPolicy:
    """Decision whether to restart after an error.

    After progress the answer is always yes, otherwise a few times. It is no where a person
    must change something.

    Args:
        state: the fit's state folder. New checkpoints in it are progress, and so is what was
            stored about the memory.
    """

    def __init__(self, state: Path) -> None:
        self._state = state
        self._left = _RESTARTS
        self._seen = self._progress()

    def _progress(self) -> set[str]:
        checkpoints = {path.name for path in (self._state / "checkpoints").glob("step-*.pt")}
        memory = {path.read_text(encoding="utf-8") for path in self._state.glob(MEMORY_FILE)}
        return checkpoints | memory

    def __call__(self, error: BaseException) -> bool:
        if isinstance(_cause(error), InputError | ParamsError):
            return False
        before = self._seen
        self._seen = self._progress()
        self._left = self._left - 1 if self._seen == before else _RESTARTS
        return self._left >= 0


def _work(config: dict[str, Any]) -> None:
    """Run one worker.

    It reports nothing to Ray Train. The loop's own checkpoints are the only state, whatever
    kills a worker.
    """
    collect_rarely()
    import ray.train
    import torch

    from components.training.loop import fit

    # A worker holds one CPU. More threads would also change the last bits of sums.
    torch.set_num_threads(1)
    spec: FitConfig = config["spec"]
    journal = Journal(Path(config["journal"]))
    if ray.train.get_context().get_world_rank() == 0:
        name = f"startup_seconds_{spec.state.name.split('-')[0]}"
        journal.metrics({name: time.time() - config["called"]}, step=0)
    fit(spec, journal)


def _cause(error: BaseException) -> GristmillError:
    """Return the GristmillError inside what Ray raised, or a fault with its last line."""
    failures = list((getattr(error, "worker_failures", None) or {}).values())
    for failure in [*failures, getattr(error, "controller_failure", None), error]:
        inner: BaseException | None = failure
        while inner is not None:
            if isinstance(inner, GristmillError):
                return inner
            cause = getattr(inner, "cause", None)
            inner = cause if isinstance(cause, BaseException) else inner.__cause__
    last = str(error).strip().splitlines()[-1:] or [type(error).__name__]
    return EnvironmentFault(
        f"the training workers failed {_RESTARTS + 1} times: {last[0]}",
        where="train",
        remedy="dvc repro goes on from the last checkpoint; gristmill doctor looks at the machine",
    )
