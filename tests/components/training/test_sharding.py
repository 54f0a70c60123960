"""FSDP: the weights that DDP learns, from workers that hold a part each; killed and resumed; and gone on from by another number of workers."""

from __future__ import annotations

import json
import os
import shutil
import signal
from dataclasses import replace
from datetime import timedelta
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file
from stage_runner import StageRunner

from components.core.files import sha256
from components.training import loop
from components.training.fit_config import FitConfig
from components.training.fsdp import parts
from components.training.loop import finished, fit
from components.training.params import FitParams
from components.training.train_step import TrainStep

KNOBS: dict[str, Any] = {
    "epochs": 2,
    "batch_size": 48,
    "ema": 0.9,
    "micro_batch_tokens": 80,
    "checkpoint_steps": 2,
    "l1": 1e-5,
    "workers": 2,
}


def held(train_step: TrainStep) -> int:
    """Numbers of weights, averages and moments in this worker's memory."""
    moments = [
        value
        for part in train_step.optimizers.parts.values()
        for each in part.state.values()
        for value in each.values()
        if value.numel() > 1
    ]
    means = train_step.ema._means if train_step.ema else []
    return sum(each.numel() for each in parts([*train_step.module.parameters(), *means, *moments]))


def work(
    rank: int, folder: Path, meeting: str, specs: dict[str, FitConfig], kill_at: int | None
) -> None:
    """One of two workers: one fit after the other; the last is cut off by the death of a worker."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo",
        init_method=f"file://{folder / meeting}",
        rank=rank,
        world_size=2,
        timeout=timedelta(seconds=60),
    )
    made: list[TrainStep] = []
    steps: list[int] = []
    make, step = loop.make_train_step, TrainStep.step
    loop.make_train_step = lambda *given: made.append(make(*given)) or made[-1]
    for name, spec in specs.items():
        if kill_at and rank == 1 and name == "stormy":
            TrainStep.step = lambda *given: (
                steps.append(1)
                or (os.kill(os.getpid(), signal.SIGKILL) if len(steps) > kill_at else None)
                or step(*given)
            )  # type: ignore[method-assign]
        fit(spec)
        if rank == 0:
            (folder / f"{name}.json").write_text(json.dumps(held(made[-1])))


def group(
    folder: Path, meeting: str, specs: dict[str, FitConfig], kill_at: int | None = None
) -> list[int | None]:
    """Exit codes of two workers."""
    context = get_context("forkserver")
    context.set_forkserver_preload(
        ["components.training.loop", "torch.distributed.fsdp", "torch.distributed.tensor"]
    )  # once for all
    workers = [
        context.Process(target=work, args=(rank, folder, meeting, specs, kill_at), daemon=True)
        for rank in range(2)
    ]
    for each in workers:
        each.start()
    for each in workers:
        each.join(120)
    return [each.exitcode for each in workers]


@pytest.mark.timeout(300)
def test_sharded_workers_learn_what_others_do(reviews: StageRunner, tmp_path: Path) -> None:
    def spec(name: str, **knobs: Any) -> FitConfig:
        return reviews.spec(tmp_path / name, "transformer", {"dropout": 0.0}, **KNOBS, **knobs)

    specs = {
        "copied": spec("copied"),
        "calm": spec("calm", sharding="fsdp"),
        "stormy": spec("stormy", sharding="fsdp"),
    }
    assert group(tmp_path, "one", specs, kill_at=8)[1] == -signal.SIGKILL
    copied, calm = finished(specs["copied"]), finished(specs["calm"])
    assert copied and calm and not finished(specs["stormy"])
    first, second = load_file(copied.weights), load_file(calm.weights)
    assert max(float((first[name] - second[name]).abs().max()) for name in first) < 1e-5
    for one, two in zip(copied.curve, calm.curve, strict=True):
        assert two == pytest.approx(one, abs=1e-5)
    all_of_it, part = (
        json.loads((tmp_path / f"{name}.json").read_text()) for name in ("copied", "calm")
    )
    assert part < 0.51 * all_of_it

    shutil.copytree(tmp_path / "stormy", tmp_path / "alone")
    assert group(tmp_path, "two", {"stormy": specs["stormy"]}) == [0, 0]
    stormy = finished(specs["stormy"])
    assert stormy and stormy.curve == calm.curve
    assert sha256(stormy.weights) == sha256(calm.weights)
    alone = fit(spec("alone", sharding="fsdp"))  # the same checkpoints, one worker
    assert [row["workers"] for row in alone.curve] == [2.0, 1.0]
    third = load_file(alone.weights)
    assert max(float((first[name] - third[name]).abs().max()) for name in first) < 1e-4


@pytest.mark.timeout(300)
def test_every_way_of_transfer_and_pretraining_runs_on_two_workers(
    borrowed: StageRunner, reviews: StageRunner, tmp_path: Path
) -> None:
    # given adapters and all weights of a pretrained encoder, copied and sharded, and masked pretraining of ours
    knobs: dict[str, Any] = {
        "epochs": 2,
        "patience": 2,
        "batch_size": 48,
        "workers": 2,
        "checkpoint_steps": 50,
    }
    ways = {
        "lora": {"way": "lora", "lora": {"rank": 4, "alpha": 8.0, "dropout": 0.0}},
        "full": {"way": "full"},
        "head": {"way": "head"},
    }
    specs = {
        way: borrowed.spec(tmp_path / way, "pretrained", config, **knobs)
        for way, config in ways.items()
    }
    specs |= {
        f"{way}-sharded": borrowed.spec(
            tmp_path / f"{way}-sharded", "pretrained", ways[way], **knobs, sharding="fsdp"
        )
        for way in ("lora", "full")
    }
    specs["masked"] = replace(
        reviews.spec(tmp_path / "masked", "transformer", **{**knobs, "epochs": 4, "patience": 4}),
        mask_share=0.15,
    )

    # when two workers fit them
    assert group(tmp_path, "ways", specs) == [0, 0]

    # then sharded is as copied, and all have learned
    found = {name: finished(spec) for name, spec in specs.items()}
    for way in ("lora", "full"):
        one, two = found[way], found[f"{way}-sharded"]
        assert one and two
        first, second = load_file(one.weights), load_file(two.weights)
        assert set(first) == set(second)
        assert max(float((first[name] - second[name]).abs().max()) for name in first) < 1e-3
    for fitted in found.values():
        assert fitted and fitted.world == 2
        assert fitted.curve[-1]["train_loss"] < fitted.curve[0]["train_loss"]


def test_muon_does_not_take_parts_of_matrices() -> None:
    with pytest.raises(ValidationError, match="needs whole matrices"):
        FitParams(optimizer="muon", sharding="fsdp")
