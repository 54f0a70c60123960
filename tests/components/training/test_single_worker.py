"""A fit on one worker is a Ray task: the bytes are those of the loop alone, and a worker that dies
is replaced as long as that helps.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray
from ray.exceptions import RayTaskError, WorkerCrashedError
from stage_runner import StageRunner

from components.core.errors import EnvironmentFault, InputError
from components.core.job import Journal
from components.training import ray_fit, single_worker
from components.training.fit_config import FitConfig
from tests.components.small_ray import small_ray


class Cluster:
    """Ray's part in a fit, played in this process: each call of the task takes the next outcome."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, outcomes: list[Any], free: list[float] | None = None
    ) -> None:
        self.outcomes, self.calls, self.resources = outcomes, 0, dict[str, Any]()
        left = free or [1.0]
        monkeypatch.setattr(ray, "is_initialized", lambda: True)
        monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 2.0})
        monkeypatch.setattr(
            ray, "available_resources", lambda: {"CPU": left.pop(0) if len(left) > 1 else left[0]}
        )
        monkeypatch.setattr(ray, "remote", self._remote)
        monkeypatch.setattr(ray, "get", self._get)
        monkeypatch.setattr(single_worker, "_POLL_S", 0.0)
        monkeypatch.setattr(single_worker, "_REPORT_S", 0.0)

    def _remote(self, **resources: Any) -> Any:
        self.resources = resources
        return lambda work: SimpleNamespace(remote=lambda *given: (work, given))

    def _get(self, task: Any) -> None:
        self.calls += 1
        outcome = self.outcomes.pop(0) if self.outcomes else None
        if isinstance(outcome, BaseException):
            raise outcome
        work, given = task
        work(*given)


def spec_of(reviews: StageRunner, state: Path, **knobs: Any) -> FitConfig:
    return reviews.spec(state, workers=1, epochs=2, **knobs)


def test_the_bytes_are_those_of_the_loop(
    reviews: StageRunner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, one_thread: None
) -> None:
    from components.training.loop import fit

    cluster = Cluster(monkeypatch, [])
    made = ray_fit.fit_distributed(
        spec_of(reviews, tmp_path / "task"), Journal(tmp_path / "journal.jsonl")
    )
    plain = fit(spec_of(reviews, tmp_path / "plain"))
    assert made.weights.read_bytes() == plain.weights.read_bytes()
    assert made.curve == plain.curve
    assert cluster.resources == {"max_retries": 0, "num_cpus": 1}
    assert "startup_seconds" in (tmp_path / "journal.jsonl").read_text(encoding="utf-8")


def test_a_worker_that_dies_is_begun_again_and_at_last_given_up(
    reviews: StageRunner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    once = Cluster(monkeypatch, [WorkerCrashedError()])
    ray_fit.fit_distributed(
        spec_of(reviews, tmp_path / "once"), Journal(tmp_path / "journal.jsonl")
    )
    assert once.calls == 2
    always = Cluster(monkeypatch, [WorkerCrashedError() for _ in range(9)])
    with pytest.raises(EnvironmentFault, match="failed 3 times"):
        ray_fit.fit_distributed(
            spec_of(reviews, tmp_path / "always"), Journal(tmp_path / "journal.jsonl")
        )
    assert always.calls == 3


def test_what_a_person_must_mend_is_not_tried_again(
    reviews: StageRunner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = InputError("the loss is nan", where="train.learning_rate")
    cluster = Cluster(monkeypatch, [RayTaskError("fit", "traceback", wrong)])
    with pytest.raises(InputError, match="the loss is nan"):
        ray_fit.fit_distributed(
            spec_of(reviews, tmp_path / "fit"), Journal(tmp_path / "journal.jsonl")
        )
    assert cluster.calls == 1


def test_it_waits_for_a_free_cpu_and_says_so(
    reviews: StageRunner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Cluster(monkeypatch, [], free=[0.0, 0.0, 1.0])
    journal = Journal(tmp_path / "journal.jsonl")
    ray_fit.fit_distributed(spec_of(reviews, tmp_path / "fit"), journal)
    assert journal.path.read_text(encoding="utf-8").count("no free CPU") == 1
    Cluster(monkeypatch, [], free=[0.0])
    monkeypatch.setattr(ray_fit, "_WAIT_S", 0.01)
    with pytest.raises(EnvironmentFault, match="had no free CPU"):
        ray_fit.fit_distributed(spec_of(reviews, tmp_path / "never"), journal)


@pytest.mark.timeout(300)
def test_a_real_worker_that_is_killed_goes_on_at_its_last_checkpoint(
    reviews: StageRunner, tmp_path: Path, one_thread: None
) -> None:
    """SIGKILL in the second epoch: the weights are those of a fit that nobody disturbed."""
    from components.training.loop import fit

    spec = spec_of(reviews, tmp_path / "killed", checkpoint_steps=1)
    path = {"env_vars": {"PYTHONPATH": os.pathsep.join(sys.path)}}
    with small_ray(cpus=1, runtime_env=path):
        original = single_worker._work
        try:
            single_worker._work = killed_once  # type: ignore[assignment]
            ray_fit.fit_distributed(spec, Journal(tmp_path / "journal.jsonl"))
        finally:
            single_worker._work = original
    assert (spec.state / "killed").exists()
    plain = fit(spec_of(reviews, tmp_path / "plain"))
    assert (spec.state / "best.safetensors").read_bytes() == plain.weights.read_bytes()


def killed_once(spec: FitConfig, journal_path: str, called: float) -> None:
    """Work that kills its own process once there is a checkpoint."""
    import torch

    from components.training.checkpoints import Checkpoints
    from components.training.loop import fit

    torch.set_num_threads(1)
    mark = spec.state / "killed"
    save = Checkpoints.save

    def save_and_die(self: Checkpoints, *given: Any) -> None:
        save(self, *given)
        if not mark.exists() and list((spec.state / "checkpoints").glob("step-*.pt")):
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)

    Checkpoints.save = save_and_die  # type: ignore[method-assign]
    fit(spec, Journal(Path(journal_path)))
