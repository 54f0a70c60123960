"""Workers killed at random moments: the weights in the end are those of a fit that nobody disturbed, bit by bit.

The short form is a test. The long form is `make chaos`: KILLS=200.
"""

from __future__ import annotations

import os
import random
import signal
import time
from dataclasses import replace
from datetime import timedelta
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
import torch
from stage_runner import StageRunner, sentences

from components.core.files import sha256
from components.tasks.shared.loss.classification.loss import ClassificationLearning
from components.training.fit_config import FitConfig
from components.training.loop import finished, fit

KILLS = int(os.environ.get("KILLS", "5"))
WORLD = 2


def work(rank: int, spec: FitConfig, meeting: str, pause: float) -> None:
    """One worker; each step takes a moment, so that there is one to be killed in."""
    torch.set_num_threads(1)
    right = ClassificationLearning.loss

    def slow(
        self: ClassificationLearning, module: torch.nn.Module, batch: object, loss_params: object
    ) -> object:
        time.sleep(pause)
        return right(self, module, batch, loss_params)  # type: ignore[arg-type]

    ClassificationLearning.loss = slow  # type: ignore[method-assign,assignment]
    torch.distributed.init_process_group(
        "gloo",
        init_method=f"file://{meeting}",
        rank=rank,
        world_size=WORLD,
        timeout=timedelta(seconds=60),
    )
    fit(spec)


def start(spec: FitConfig, meeting: Path, pause: float) -> list[BaseProcess]:
    """A group of workers; each needs a meeting place of its own."""
    context = get_context("forkserver")  # its server imports torch once, not every worker
    context.set_forkserver_preload(
        ["components.training.loop", "components.tasks.shared.loss.classification.loss", "runner"]
    )
    group = [
        context.Process(target=work, args=(rank, spec, str(meeting), pause), daemon=True)
        for rank in range(WORLD)
    ]
    for process in group:
        process.start()
    return group


def end(group: list[BaseProcess]) -> None:
    """Wait for a group; who has lost the other is told so by gloo within a minute, and a long fit that nobody disturbs may take several."""
    for process in group:
        process.join(60 + 5 * KILLS)
        if process.is_alive():
            process.kill()
            process.join()


def newest(spec: FitConfig) -> str:
    return max((path.name for path in (spec.state / "checkpoints").glob("step-*.pt")), default="")


@pytest.mark.timeout(120 + 60 * KILLS)
def test_kills_at_random_moments_change_no_bit(tmp_path: Path) -> None:
    chance = random.Random(int(os.environ.get("SEED", "11")))
    runner = StageRunner.make(
        tmp_path / "runner", sentences(240), tokenize={"vocabulary_size": 600, "max_length": 48}
    ).all()
    spec = runner.spec(
        tmp_path / "calm",
        "transformer",
        workers=WORLD,
        epochs=max(4, KILLS),
        patience=10_000,
        batch_size=16,
        checkpoint_steps=2,
        ema=0.9,
        optimizer="adamw",
    )
    end(start(spec, tmp_path / "meeting-calm", 0.0))
    calm = finished(spec)
    assert calm is not None

    stormy, kills, attempt = replace(spec, state=tmp_path / "stormy"), 0, 0
    while finished(stormy) is None:
        group, before = start(stormy, tmp_path / f"meeting-{attempt}", 0.02), newest(stormy)
        while (
            kills < KILLS
            and newest(stormy) == before
            and any(process.is_alive() for process in group)
        ):
            time.sleep(0.01)
        time.sleep(chance.random() * 0.4)
        # One of three kills is of all at once, as when the driver dies, with which Ray ends its workers.
        alive = [
            worker.pid
            for worker in (group if chance.random() < 1 / 3 else [chance.choice(group)])
            if worker.is_alive() and worker.pid
        ]
        if kills < KILLS and alive:
            for pid in alive:
                os.kill(pid, signal.SIGKILL)
            kills += 1
        end(group)
        attempt += 1
        assert attempt <= KILLS + 2, "it does not come to its end"
    found = finished(stormy)
    assert found is not None
    assert kills == KILLS
    assert found.curve == calm.curve
    assert sha256(found.weights) == sha256(calm.weights)
