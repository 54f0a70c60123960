"""Checkpoints are written while the fit goes on, and never cost more than they may."""

from __future__ import annotations

import resource
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from stage_runner import StageRunner

from components.core.errors import EnvironmentFault
from components.training.checkpoints import Checkpoints
from components.training.loop import finished, fit


@contextmanager
def small_files() -> Iterator[None]:
    """No file may grow beyond 20 kB, as on a full disk. Only around the lines under test: pytest's own log may be a longer file."""
    before, handler = (
        resource.getrlimit(resource.RLIMIT_FSIZE),
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN),
    )
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def saved(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_what_is_kept_is_the_state_of_the_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fit changes its tensors in place while they are still being written."""
    may_write, right = threading.Event(), Checkpoints._write

    def slow(self: Checkpoints, path: Path, state: dict[str, Any]) -> None:
        assert may_write.wait(20)
        right(self, path, state)

    monkeypatch.setattr(Checkpoints, "_write", slow)
    checkpoints, weight = Checkpoints(tmp_path), torch.ones(3)
    checkpoints.save(
        1, {"module": {"weight": weight}, "optimisers": [{"step": torch.tensor(1.0)}, (2, "plain")]}
    )
    weight.fill_(7.0)
    assert not list(tmp_path.iterdir())  # save came back before anything was written
    may_write.set()
    kept = checkpoints.newest()
    assert kept is not None
    assert kept["module"]["weight"].tolist() == [1, 1, 1]
    assert kept["optimisers"] == [{"step": torch.tensor(1.0)}, [2, "plain"]]


def test_a_worker_that_is_being_ended_writes_by_itself(tmp_path: Path) -> None:
    """Ray ends a worker's interpreter, whose driver was killed, while its fit is still running: no thread may begin then."""
    checkpoints = Checkpoints(tmp_path)
    checkpoints._writer.shutdown()  # it refuses as the interpreter does at its end
    checkpoints.save(4, {"step": 4})
    assert checkpoints.newest() == {"step": 4}


@pytest.mark.parametrize(
    ("keep", "disk_mb", "left"), [(1, 1.0, 1), (3, 1.0, 3), (9, 0.1, 2), (9, 0.001, 1)]
)
def test_so_many_are_kept_as_fit_the_disk_and_one_always(
    tmp_path: Path, keep: int, disk_mb: float, left: int
) -> None:
    checkpoints = Checkpoints(tmp_path, keep=keep, disk_mb=disk_mb)
    for step in range(1, 6):
        checkpoints.save(step, {"weight": torch.zeros(10_000)})  # 41 kB
    checkpoints.close()
    assert saved(tmp_path) == [f"step-{step:09d}.pt" for step in range(6 - left, 6)]


def test_a_full_disk_is_told_with_the_next_checkpoint_and_loses_nothing(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    with small_files():
        checkpoints.save(1, {"step": 1})
        checkpoints.save(2, {"weight": torch.zeros(100_000)})
        with pytest.raises(EnvironmentFault, match="cannot be written") as caught:
            checkpoints.save(3, {"step": 3})
    assert "free disk space" in caught.value.remedy
    assert saved(tmp_path) == ["step-000000001.pt"]
    assert checkpoints.newest() == {"step": 1}


def test_a_fit_on_a_full_disk_ends_with_what_to_do_and_goes_on_later(
    reviews: StageRunner, tmp_path: Path
) -> None:
    spec = reviews.spec(tmp_path, "transformer", epochs=2)
    with small_files(), pytest.raises(EnvironmentFault, match="cannot be written"):
        fit(spec)
    assert finished(spec) is None
    assert not list(tmp_path.rglob("*.part"))
    assert len(fit(spec).curve) == 2


def test_a_folder_that_cannot_be_written_is_named(reviews: StageRunner, tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file where the state should be")
    with pytest.raises(EnvironmentFault, match="cannot be written") as caught:
        fit(reviews.spec(tmp_path / "state" / "fit", epochs=1))
    assert "state" in caught.value.where
