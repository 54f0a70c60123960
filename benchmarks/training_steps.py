"""Rows "bf16 where AMX exists, whole training step" and "checkpoint every 10 steps": the engine against itself, arms interleaved.

python benchmarks/training_steps.py       # needs data/tokens of the default pipeline (dvc repro tokenize)
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from components.tasks import base
from components.training.batches import EncodedRows, load_encoder, plan
from components.training.checkpoints import Checkpoints
from components.training.params import FitParams
from components.training.train_step import TrainStep

TOKENS, TASK = Path(__file__).resolve().parent.parent / "data/tokens", "text_classification"
NETS: dict[str, tuple[str, dict[str, Any]]] = {
    "textcnn of 128 (the default)": (
        "textcnn",
        {"width": 128, "channels": 128, "kernels": [1, 2, 3, 4], "dropout": 0.5},
    ),
    "transformer, 4 layers of 256": (
        "transformer",
        {"width": 256, "layers": 4, "heads": 4, "feedforward": 680, "dropout": 0.1},
    ),
    "transformer, 4 layers of 768": (
        "transformer",
        {"width": 768, "layers": 4, "heads": 12, "feedforward": 2048, "dropout": 0.1},
    ),
}


def learner(name: str, precision: str, encoder: base.Encoder) -> tuple[TrainStep, bool]:
    """A network to train, and whether it takes packed rows."""
    kind, config = NETS[name]
    architecture = base.models(TASK).architectures[kind]
    torch.manual_seed(7)
    module = architecture.build(architecture.Config.model_validate(config), encoder).train()
    return TrainStep(
        module, base.learning(TASK), FitParams(workers=1, precision=precision)
    ), architecture.supports_packing  # type: ignore[arg-type]


def precision(rows: EncodedRows, steps: int) -> None:
    """Seconds of whole steps in fp32 and bf16."""
    for name in NETS:
        arms = {kind: learner(name, kind, rows.encoder) for kind in ("fp32", "bf16")}
        times: dict[str, list[float]] = {kind: [] for kind in arms}
        for number, batch in enumerate(plan(rows.lengths, 64, 7, 0)[: steps + 2]):
            for kind, (one, packed) in arms.items():
                start = time.perf_counter()
                one.step([one.put(rows.batch(batch, packed))], len(batch), 1e-3)
                if number > 1:
                    times[kind].append(time.perf_counter() - start)
        ratios = [single / half for single, half in zip(times["fp32"], times["bf16"], strict=True)]
        low, high = statistics.quantiles(ratios, n=20)[0], statistics.quantiles(ratios, n=20)[-1]
        single, half = (1000 * statistics.median(times[kind]) for kind in ("fp32", "bf16"))
        print(
            f"| bf16, {name} | fp32 {single:.0f} ms, bf16 {half:.0f} ms | {statistics.median(ratios):.2f}x ({low:.2f}-{high:.2f}) |",
            flush=True,
        )


def checkpoints(rows: EncodedRows, rounds: int) -> None:
    """Blocks of ten steps with and without a checkpoint at the end of each, interleaved."""
    one, packed = learner("transformer, 4 layers of 256", "auto", rows.encoder)
    batches = [
        batch for batch in plan(rows.lengths, 64, 7, 0) if 60 <= rows.lengths[batch].mean() <= 70
    ][:10]  # steps of like cost
    with tempfile.TemporaryDirectory() as folder:
        kept = Checkpoints(Path(folder))
        arms: dict[str, Callable[[int], None]] = {
            "none": lambda _: None,
            "every 10 steps": lambda step: kept.save(step, one.state()),
        }
        times: dict[str, list[float]] = {name: [] for name in arms}
        for number in range(rounds + 1):
            for name in (list(arms), list(reversed(arms)))[number % 2]:
                start = time.perf_counter()
                arms[name](number)
                for batch in batches:
                    one.step([one.put(rows.batch(batch, packed))], len(batch), 1e-3)
                if number:
                    times[name].append(time.perf_counter() - start)
        kept.close()
        size = max(path.stat().st_size for path in Path(folder).iterdir()) / 1e6
    taxes = [
        with_ / without - 1
        for with_, without in zip(times["every 10 steps"], times["none"], strict=True)
    ]
    error = statistics.stdev(taxes) / len(taxes) ** 0.5
    print(
        f"| checkpoint every 10 steps ({size:.0f} MB) | none: {statistics.median(times['none']):.2f} s for {len(batches)} steps | {statistics.mean(taxes):+.2%}, standard error {error:.2%} |"
    )


if __name__ == "__main__":
    torch.set_num_threads(2)
    given = EncodedRows(TOKENS, "train", load_encoder(TOKENS, TASK))
    checkpoints(given, rounds=8)
    precision(given, steps=10)
