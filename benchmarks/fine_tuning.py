"""Row "fine-tuning throughput against HF Trainer": the same reviews, the same shape of network, three ways to train it.

    python benchmarks/fine_tuning.py throughput              # samples/s, arms interleaved, medians and ratios
    python benchmarks/fine_tuning.py accuracy --rows 4000 --epochs 2 --seeds 5

Needs `pip install -e '.[benchmarks]'` and data/clean, data/tokens of the default pipeline (dvc repro tokenize).
Arms: `defaults` Trainer, padded to 256, fp32; `tuned` Trainer, dynamic padding, grouped by length, bf16; `gristmill` the steps of the engine.
BERT-shaped 4 layers of 256 against our encoder of as many parameters; AdamW, batches of 64 rows, one process with two threads.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("ACCELERATE_USE_CPU", "true")
import numpy as np
import torch

from components.core.tables import read_table
from components.tasks import base
from components.tasks.text_classification.encode import TextEncoder
from components.training.allocator import keep_freed_memory
from components.training.batches import EncodedRows, in_order, load_encoder, plan
from components.training.lr_schedule import learning_rate_at
from components.training.params import FitParams
from components.training.train_step import TrainStep

ROOT = Path(__file__).resolve().parent.parent
TASK, LONGEST, BATCH, RATE = "text_classification", 256, 64, 5e-4


def data() -> dict[str, Any]:
    """Train and validation as token ids of up to 256, and the encoder."""
    files = load_encoder(ROOT / "data/tokens", TASK).files()
    encoder = TextEncoder(
        files["tokenizer.json"].decode(),
        json.loads(files["encoder.json"]) | {"max_length": LONGEST},
    )
    splits = {}
    for split in ("train", "validation"):
        encoded = encoder.encode(read_table(ROOT / "data/clean", split))
        splits[split] = (
            [np.asarray(row, dtype=np.int32) for row in encoded["ids"].to_pylist()],
            encoded["target"].to_numpy(),
        )
    return {"encoder": encoder, **splits}


def some(split: tuple[list[Any], Any], count: int, seed: int) -> tuple[list[Any], Any]:
    """So many rows, drawn by seed."""
    chosen = np.random.default_rng(seed).permutation(len(split[0]))[:count]
    return [split[0][i] for i in chosen], split[1][chosen]


class InMemory(EncodedRows):
    """Rows of the engine from token ids that are no files."""

    def __init__(self, split: tuple[list[Any], Any], encoder: TextEncoder) -> None:
        ids, self.target = split
        self.encoder, self._weights = encoder, None
        self.lengths = np.array([len(row) for row in ids])
        self._ragged = {"ids": (np.concatenate(ids), np.concatenate([[0], self.lengths.cumsum()]))}


def gristmill(
    train: Any, validation: Any, encoder: TextEncoder, epochs: int, seed: int
) -> tuple[float, float]:
    """Samples per second of the steps, and accuracy on validation (0 to 1)."""
    keep_freed_memory()  # as `fit` does
    torch.manual_seed(seed)
    kind, learning = base.models(TASK).architectures["transformer"], base.learning(TASK)
    module = kind.build(
        kind.Config.model_validate(
            {"width": 256, "layers": 4, "heads": 4, "feedforward": 688, "dropout": 0.1}
        ),
        encoder,
    ).train()
    knobs = FitParams(workers=1, batch_size=BATCH, learning_rate=RATE)
    learner, rows, step = TrainStep(module, learning, knobs), InMemory(train, encoder), 0
    start = time.perf_counter()
    for epoch in range(epochs):
        batches = plan(rows.lengths, BATCH, seed, epoch)
        for batch in batches:
            learner.step(
                [learner.put(rows.batch(batch, packed=True))],
                len(batch),
                learning_rate_at(step, len(batches) * epochs, knobs),
            )
            step += 1
    speed = len(rows) * epochs / (time.perf_counter() - start)
    judged = InMemory(validation, encoder)
    return speed, learner.validate(
        judged.batch(part, packed=True) for part in in_order(judged.lengths, 256)
    )["accuracy"]


def trainer(
    train: Any,
    validation: Any,
    encoder: TextEncoder,
    epochs: int,
    seed: int,
    tuned: bool,
    steps: int = -1,
) -> tuple[float, float]:
    """The same by Hugging Face's Trainer."""
    from transformers import (
        BertConfig,
        BertForSequenceClassification,
        Trainer,
        TrainingArguments,
        set_seed,
    )

    set_seed(seed)
    module = BertForSequenceClassification(
        BertConfig(
            vocab_size=encoder.vocabulary,
            hidden_size=256,
            num_hidden_layers=4,
            num_attention_heads=4,
            intermediate_size=1024,
            max_position_embeddings=LONGEST,
            num_labels=len(encoder.classes),
        )
    )

    def collate(rows: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
        width = max(len(row["input_ids"]) for row in rows) if tuned else LONGEST
        ids = torch.zeros(len(rows), width, dtype=torch.long)
        for i, row in enumerate(rows):
            ids[i, : len(row["input_ids"])] = torch.as_tensor(row["input_ids"])
        return {
            "input_ids": ids,
            "attention_mask": (ids != 0).long(),
            "labels": torch.tensor([row["labels"] for row in rows]),
        }

    with tempfile.TemporaryDirectory() as folder:
        extra: dict[str, Any] = (
            {"bf16": True, "train_sampling_strategy": "group_by_length"} if tuned else {}
        )
        options = TrainingArguments(
            folder, use_cpu=True, per_device_train_batch_size=BATCH, per_device_eval_batch_size=256, num_train_epochs=epochs, max_steps=steps, learning_rate=RATE, warmup_steps=0.06,
            lr_scheduler_type="cosine", seed=seed, save_strategy="no", logging_strategy="no", report_to=[], disable_tqdm=True, remove_unused_columns=False, **extra,
        )  # fmt: skip
        rows = [
            {"input_ids": ids.tolist(), "labels": int(label), "length": len(ids)}
            for ids, label in zip(*train, strict=True)
        ]
        judged = [
            {"input_ids": ids.tolist(), "labels": int(label), "length": len(ids)}
            for ids, label in zip(*validation, strict=True)
        ]
        run: Any = Trainer(
            module, options, collate, train_dataset=rows, eval_dataset=judged, compute_metrics=hits
        )
        start = time.perf_counter()
        run.train()
        done = BATCH * steps if steps > 0 else len(rows) * epochs
        speed = done / (time.perf_counter() - start)
        return speed, run.evaluate()["eval_accuracy"] if steps < 0 else float("nan")


def hits(given: Any) -> dict[str, float]:
    """Accuracy as Trainer asks for it."""
    return {"accuracy": float((given.predictions.argmax(1) == given.label_ids).mean())}


def arm(name: str, rows: int, seed: int) -> float:
    """Samples per second of one arm over so many rows; for the defaults, whose steps all cost the same, over four steps."""
    given = data()
    train = some(given["train"], rows, seed)
    if name == "gristmill":
        return gristmill(train, some(train, BATCH, seed), given["encoder"], 1, seed)[0]
    return trainer(
        train,
        some(train, BATCH, seed),
        given["encoder"],
        1,
        seed,
        tuned=name == "tuned",
        steps=4 if name == "defaults" else -(-rows // BATCH),
    )[0]


def throughput(rounds: int, rows: int) -> None:
    """Print samples/s per arm and the ratios; each arm in a process of its own, one after the other, round by round."""
    found: dict[str, list[float]] = {"defaults": [], "tuned": [], "gristmill": []}
    for number in range(rounds):
        for name, speeds in found.items():
            command = [
                sys.executable,
                __file__,
                "arm",
                "--name",
                name,
                "--rows",
                str(rows),
                "--seeds",
                str(number),
            ]
            speeds.append(
                float(
                    subprocess.run(
                        command, check=True, capture_output=True, text=True
                    ).stdout.splitlines()[-1]
                )
            )
        print({name: round(speeds[-1], 1) for name, speeds in found.items()}, flush=True)
    for name, speeds in found.items():
        ratios = [ours / other for ours, other in zip(found["gristmill"], speeds, strict=True)]
        shown = f"{statistics.median(speeds):.1f} samples/s ({min(speeds):.1f}-{max(speeds):.1f})"
        print(
            f"| {name} | {shown} | gristmill is {statistics.median(ratios):.2f}x ({min(ratios):.2f}-{max(ratios):.2f}) |"
        )


def accuracy(seeds: int, rows: int, epochs: int) -> None:
    """Print accuracy on validation per arm and seed, and the difference."""
    given, found = data(), []
    for seed in range(seeds):
        train = some(given["train"], rows, seed)
        ours = gristmill(train, given["validation"], given["encoder"], epochs, seed)
        theirs = trainer(train, given["validation"], given["encoder"], epochs, seed, tuned=True)
        found.append((ours[1], theirs[1]))
        print(
            f"seed {seed}: gristmill {ours[1]:.4f} ({ours[0]:.0f} samples/s), HF Trainer tuned {theirs[1]:.4f} ({theirs[0]:.0f} samples/s)",
            flush=True,
        )
    differences = [100 * (ours - theirs) for ours, theirs in found]
    error = statistics.stdev(differences) / len(differences) ** 0.5 if seeds > 1 else float("nan")
    print(
        f"| accuracy, {rows} rows, {epochs} epochs, {seeds} seeds | difference {statistics.mean(differences):+.2f} points, standard error {error:.2f} |"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["throughput", "accuracy", "arm"])
    parser.add_argument("--name", default="gristmill")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rows", type=int, default=1536)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--seeds", type=int, default=5)
    chosen = parser.parse_args()
    torch.set_num_threads(2)
    if chosen.what == "arm":
        print(arm(chosen.name, chosen.rows, chosen.seeds))
    else:
        throughput(chosen.rounds, chosen.rows) if chosen.what == "throughput" else accuracy(
            chosen.seeds, chosen.rows, chosen.epochs
        )
