"""Ray Train around the loop: workers, their process group, restarts after a worker is lost."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from components.core.errors import EnvironmentFault, GristmillError
from components.core.job import Journal
from components.engine.spec import FitSpec, Fitted

_RESTARTS = 2


def fit_distributed(spec: FitSpec, journal: Journal) -> Fitted:
    """Run `fit` on `spec.knobs.workers` DDP workers.

    Raises:
        EnvironmentFault: the cluster is too small, so that Ray would wait for ever; or the workers kept dying.
        GristmillError: what a worker raised.
    """
    import ray
    from ray.train import FailureConfig, RunConfig, ScalingConfig, TrainingFailedError
    from ray.train.torch import TorchConfig, TorchTrainer

    from components.engine.loop import check, finished

    if (found := finished(spec)) is not None:
        return found
    check(spec)
    gpus = ray.cluster_resources().get("GPU", 0) >= spec.knobs.workers
    unit = "GPU" if gpus else "CPU"
    if ray.cluster_resources().get(unit, 0) < spec.knobs.workers:
        raise EnvironmentFault(
            f"asks for {spec.knobs.workers} workers of one {unit} each, the cluster has {ray.cluster_resources().get(unit, 0):.0f}",
            where="train.workers",
            remedy="lower train.workers, or use a larger cluster",
        )
    trainer = TorchTrainer(
        _work,
        train_loop_config={"spec": spec, "journal": str(journal.path), "called": time.time()},
        scaling_config=ScalingConfig(num_workers=spec.knobs.workers, use_gpu=gpus, resources_per_worker={unit: 1}),
        torch_config=TorchConfig(backend="nccl" if gpus else "gloo"),
        run_config=RunConfig(name="fit", storage_path=str(spec.state / "ray"), failure_config=FailureConfig(max_failures=_RESTARTS)),
    )
    try:
        trainer.fit()
    except TrainingFailedError as error:
        raise _cause(error) from None
    fitted = finished(spec)
    if fitted is None:
        raise EnvironmentFault("the workers ended without a result: not all of them see the state folder", where=str(spec.state), remedy="set cluster.storage to a folder that all nodes share")
    return fitted


def _work(config: dict[str, Any]) -> None:
    """One worker. Reports to Ray Train only that it lives: the loop's own checkpoints are the state, in one place for kills of every kind."""
    import ray.train
    import torch

    from components.engine.loop import fit

    torch.set_num_threads(1)  # a worker holds one CPU; more threads would also change the last bits of sums
    journal = Journal(Path(config["journal"]))
    if ray.train.get_context().get_world_rank() == 0:
        journal.metrics({f"startup_seconds_{config['spec'].state.name.split('-')[0]}": time.time() - config["called"]}, step=0)
    fit(config["spec"], journal, report=lambda row: ray.train.report(dict(row)))


def _cause(error: BaseException) -> GristmillError:
    """The GristmillError inside what Ray Train raised, or a fault that carries its last line."""
    failures = getattr(error, "worker_failures", None) or {}
    for failure in [*failures.values(), error]:
        inner: BaseException | None = failure
        while inner is not None:
            if isinstance(inner, GristmillError):
                return inner
            inner = getattr(inner, "cause", None) if isinstance(getattr(inner, "cause", None), BaseException) else inner.__cause__
    last = str(error).strip().splitlines()[-1:] or [type(error).__name__]
    return EnvironmentFault(f"the training workers failed {_RESTARTS + 1} times: {last[0]}", where="train", remedy="dvc repro goes on from the last checkpoint; gristmill doctor looks at the machine")
