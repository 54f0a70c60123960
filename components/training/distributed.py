"""Ray around the loop: workers, their process group, restarts after a worker is lost. Several workers run under Ray Train, one as a Ray task."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from components.core.errors import EnvironmentFault, GristmillError, InputError, ParamsError
from components.core.job import Journal
from components.core.parallel_map import has_ray
from components.training.fit_config import ROOM, FitConfig, FitResult, check
from components.training.prestart import PrestartedWorkers
from components.training.single_worker import fit_alone

_RESTARTS = 2  # without a new checkpoint between them
_WAIT_S, _WAIT_FEWER_S = 600.0, 60.0  # for room for all workers; before fewer begin, where they may


def fit_distributed(spec: FitConfig, journal: Journal) -> FitResult:
    """Run `fit` on `spec.params.workers` DDP workers; the same bytes come of one worker with or without Ray Train.

    Raises:
        EnvironmentFault: the cluster is too small, so that Ray would wait for ever; or the workers kept dying.
        GristmillError: what a worker raised.
    """
    check(spec)
    if not has_ray():
        return _fit_here(spec, journal)
    import ray

    total, workers = ray.cluster_resources(), spec.params.workers
    least = spec.params.min_workers or workers
    unit = "GPU" if total.get("GPU", 0) >= least else "CPU"
    if total.get(unit, 0) < least:
        raise EnvironmentFault(
            f"asks for {least} workers of one {unit} each, the cluster has {total.get(unit, 0):.0f}",
            where="train.workers" if least == workers else "train.min_workers",
            remedy="lower it, or use a larger cluster",
        )
    if workers == 1 and not spec.done.exists():
        _train_alone(spec, journal, unit)
    elif not spec.done.exists():
        early = (
            PrestartedWorkers(workers, {unit: 1.0})
            if ray.available_resources().get(unit, 0) >= workers
            else None
        )
        try:
            _train(spec, journal, unit, least, early)
        finally:
            if early:
                early.drop()
    from components.training.loop import finished  # torch with it: not before the workers run

    fitted = finished(spec)
    if fitted is None:
        raise EnvironmentFault(
            "the workers ended without a result: not all of them see the state folder",
            where=str(spec.state),
            remedy="set cluster.storage to a folder that all nodes share",
        )
    return fitted


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
    """Run the only worker to its end.

    Raises:
        GristmillError: what stopped it.
    """
    from ray.exceptions import RayError

    try:
        fit_alone(spec, journal, unit=unit, go_on=_Patience(spec.state), wait_s=_WAIT_S)
    except RayError as error:
        raise _cause(error) from None


def _train(
    spec: FitConfig, journal: Journal, unit: str, least: int, early: PrestartedWorkers | None
) -> None:
    """Run the workers to their end.

    Raises:
        GristmillError: what stopped them.
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
        early=early,
        go_on=_Patience(spec.state),
        wait_s=_WAIT_S if least == most else _WAIT_FEWER_S,
        say=journal.log,
    )
    try:
        trainer.fit()
    except TrainingFailedError as error:
        raise _cause(error) from None


class _Patience:
    """Whether it is worth beginning again: always after progress, else a few times; never where a person must mend something.

    Args:
        state: of the fit. New checkpoints in it are progress, and so is what it learned about the memory.
    """

    def __init__(self, state: Path) -> None:
        self._state, self._left = state, _RESTARTS
        self._seen = self._progress()

    def _progress(self) -> set[str]:
        return {path.name for path in (self._state / "checkpoints").glob("step-*.pt")} | {
            path.read_text(encoding="utf-8") for path in self._state.glob(ROOM)
        }

    def __call__(self, error: BaseException) -> bool:
        if isinstance(_cause(error), InputError | ParamsError):
            return False
        before, self._seen = self._seen, self._progress()
        self._left = self._left - 1 if self._seen == before else _RESTARTS
        return self._left >= 0


def _work(config: dict[str, Any]) -> None:
    """One worker. Reports nothing to Ray Train: the loop's own checkpoints are the state, in one place for kills of every kind."""
    import ray.train
    import torch

    from components.training.loop import fit

    torch.set_num_threads(
        1
    )  # a worker holds one CPU; more threads would also change the last bits of sums
    journal = Journal(Path(config["journal"]))
    if ray.train.get_context().get_world_rank() == 0:
        journal.metrics(
            {
                f"startup_seconds_{config['spec'].state.name.split('-')[0]}": time.time()
                - config["called"]
            },
            step=0,
        )
    fit(config["spec"], journal)


def _cause(error: BaseException) -> GristmillError:
    """The GristmillError inside what Ray Train raised, or a fault that carries its last line."""
    failures = getattr(error, "worker_failures", None) or {}
    for failure in [*failures.values(), getattr(error, "controller_failure", None), error]:
        inner: BaseException | None = failure
        while inner is not None:
            if isinstance(inner, GristmillError):
                return inner
            inner = (
                getattr(inner, "cause", None)
                if isinstance(getattr(inner, "cause", None), BaseException)
                else inner.__cause__
            )
    last = str(error).strip().splitlines()[-1:] or [type(error).__name__]
    return EnvironmentFault(
        f"the training workers failed {_RESTARTS + 1} times: {last[0]}",
        where="train",
        remedy="dvc repro goes on from the last checkpoint; gristmill doctor looks at the machine",
    )
