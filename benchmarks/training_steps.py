"""Rows "bf16 where AMX exists, whole training step" and "checkpoint every 10 steps".

The engine against itself, with interleaved arms. Each row names the processor. bf16 is measured
only where the processor multiplies it fast: elsewhere it is emulated. Needs data/tokens of the
default pipeline (dvc repro tokenize).

python benchmarks/training_steps.py
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.processor import fast_precision, processor_name
from components.tasks import base
from components.training.batches import EncodedRows, load_encoder, plan
from components.training.checkpoints import Checkpoints
from components.training.params import FitParams
from components.training.train_step import TrainStep

TOKENS = Path(__file__).resolve().parent.parent / "data/tokens"
TASK = "text_classification"
NETS: dict[str, tuple[str, dict[str, Any]]] = {
    "textcnn of 128 (the default)": (
        "textcnn",
        {
            "width": 128,
            "channels": 128,
            "kernels": [1, 2, 3, 4],
            "dropout": 0.5,
        },
    ),
    "transformer, 4 layers of 256": (
        "transformer",
        {
            "width": 256,
            "layers": 4,
            "heads": 4,
            "feedforward": 680,
            "dropout": 0.1,
        },
    ),
    "transformer, 4 layers of 768": (
        "transformer",
        {
            "width": 768,
            "layers": 4,
            "heads": 12,
            "feedforward": 2048,
            "dropout": 0.1,
        },
    ),
}


def make_train_step(name: str, precision: str, encoder: base.Encoder) -> tuple[TrainStep, bool]:
    """Return a network to train, and whether it takes packed rows."""
    kind, config = NETS[name]
    architecture = base.models(TASK).architectures[kind]
    torch.manual_seed(7)
    module = architecture.build(architecture.Config.model_validate(config), encoder).train()
    params = FitParams(workers=1, precision=precision)  # type: ignore[arg-type]
    return TrainStep(module, base.learning(TASK), params), architecture.supports_packing


def take_step(
    train_step: TrainStep,
    rows: EncodedRows,
    batch: Any,
    packed: bool,
) -> None:
    """Take one training step."""
    train_step.step([train_step.put(rows.batch(batch, packed))], len(batch), 1e-3)


def measure_precision(rows: EncodedRows, steps: int) -> None:
    """Print the seconds of whole steps in fp32 and bf16, where bf16 is fast."""
    for name in NETS:
        arms = {kind: make_train_step(name, kind, rows.encoder) for kind in ("fp32", "bf16")}
        if fast_precision(arms["fp32"][0].module) != "bf16":
            print(
                f"| bf16, {name} | not measured: fp32 is faster | | {processor_name()} |",
                flush=True,
            )
            continue
        times: dict[str, list[float]] = {kind: [] for kind in arms}
        for number, batch in enumerate(plan(rows.lengths, 64, 7, 0)[: steps + 2]):
            for kind, (train_step, packed) in arms.items():
                start = time.perf_counter()
                take_step(train_step, rows, batch, packed)
                if number > 1:
                    times[kind].append(time.perf_counter() - start)
        ratios = [single / half for single, half in zip(times["fp32"], times["bf16"], strict=True)]
        quantiles = statistics.quantiles(ratios, n=20)
        ratio = f"{statistics.median(ratios):.2f}x ({quantiles[0]:.2f}-{quantiles[-1]:.2f})"
        single = 1000 * statistics.median(times["fp32"])
        half = 1000 * statistics.median(times["bf16"])
        print(
            f"| bf16, {name} | fp32 {single:.0f} ms, bf16 {half:.0f} ms | {ratio} "
            f"| {processor_name()} |",
            flush=True,
        )


def measure_checkpoints(rows: EncodedRows, rounds: int) -> None:
    """Print the cost of a checkpoint at the end of each ten steps. The arms are interleaved."""
    train_step, packed = make_train_step("transformer, 4 layers of 256", "auto", rows.encoder)
    # Steps of similar cost.
    batches = [
        batch for batch in plan(rows.lengths, 64, 7, 0) if 60 <= rows.lengths[batch].mean() <= 70
    ]
    batches = batches[:10]
    with tempfile.TemporaryDirectory() as folder:
        checkpoints = Checkpoints(Path(folder))
        arms: dict[str, Callable[[int], None]] = {
            "none": lambda _: None,
            "every 10 steps": lambda step: checkpoints.save(step, train_step.state()),
        }
        times: dict[str, list[float]] = {name: [] for name in arms}
        for number in range(rounds + 1):
            order = list(arms)
            if number % 2:
                order.reverse()
            for name in order:
                start = time.perf_counter()
                arms[name](number)
                for batch in batches:
                    take_step(train_step, rows, batch, packed)
                if number:
                    times[name].append(time.perf_counter() - start)
        checkpoints.close()
        size = max(path.stat().st_size for path in Path(folder).iterdir()) / 1e6
    pairs = zip(times["every 10 steps"], times["none"], strict=True)
    taxes = [with_ / without - 1 for with_, without in pairs]
    error = statistics.stdev(taxes) / len(taxes) ** 0.5
    without = statistics.median(times["none"])
    print(
        f"| checkpoint every 10 steps ({size:.0f} MB) "
        f"| none: {without:.2f} s for {len(batches)} steps "
        f"| {statistics.mean(taxes):+.2%}, standard error {error:.2%} | {processor_name()} |"
    )


if __name__ == "__main__":
    torch.set_num_threads(2)
    train = EncodedRows(TOKENS, "train", load_encoder(TOKENS, TASK))
    measure_checkpoints(train, rounds=8)
    measure_precision(train, steps=10)
