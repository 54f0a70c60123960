"""Row "fine-tuning throughput against HF Trainer".

The same reviews and the same shape of network, trained in three ways.

    python benchmarks/fine_tuning.py throughput              # samples/s, medians and ratios
    python benchmarks/fine_tuning.py accuracy --rows 4000 --epochs 2 --seeds 5

Needs `pip install -e '.[benchmarks]'` and data/clean, data/tokens of the default pipeline (dvc
repro tokenize). Arms: `defaults` is Trainer, padded to 256, in fp32. `tuned` is Trainer with
dynamic padding, grouped by length. `gristmill` is the steps of the engine. Both take bf16 on a
processor that multiplies it fast, and fp32 on others, where bf16 would be emulated. Each row names
the processor. The networks are a BERT of 4 layers of 256 and our encoder of as many parameters.
Both use AdamW, batches of 64 rows and one process with two threads."""

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

from components.training.batches import EncodedRows
from components.training.lr_schedule import learning_rate_at

os.environ.setdefault("ACCELERATE_USE_CPU", "true")
import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.processor import fast_precision, processor_name
from components.core.tables import read_table
from components.tasks import base
from components.tasks.text_classification.encode import TextEncoder
from components.training.allocator import keep_freed_memory
from components.training.batches import in_order, load_encoder, plan
from components.training.params import FitParams
from components.training.train_step import TrainStep

ROOT = Path(__file__).resolve().parent.parent
TASK = "text_classification"
LONGEST = 256
BATCH = 64
RATE = 5e-4
CONFIG = {
    "width": 256,
    "layers": 4,
    "heads": 4,
    "feedforward": 688,
    "dropout": 0.1,
}
# Token ids of each row, and the classes (n,).
Split = tuple[list[Any], Any]


def read_data() -> dict[str, Any]:
    """Return train and validation as token ids of up to 256, and the encoder."""
    files = load_encoder(ROOT / "data/tokens", TASK).files()
    settings = json.loads(files["encoder.json"]) | {"max_length": LONGEST}
    encoder = TextEncoder(files["tokenizer.json"].decode(), settings)
    data: dict[str, Any] = {"encoder": encoder}
    for split in ("train", "validation"):
        encoded = encoder.encode(read_table(ROOT / "data/clean", split))
        ids = [np.asarray(row, dtype=np.int32) for row in encoded["ids"].to_pylist()]
        data[split] = (ids, encoded["target"].to_numpy())
    return data


def sample(split: Split, count: int, seed: int) -> Split:
    """Return some rows, drawn by a seed."""
    chosen = np.random.default_rng(seed).permutation(len(split[0]))[:count]
    return [split[0][i] for i in chosen], split[1][chosen]


class InMemory(EncodedRows):
    """Holds rows of the engine whose token ids are in no file."""

    def __init__(self, split: Split, encoder: TextEncoder) -> None:
        ids, self.target = split
        self.encoder = encoder
        self._weights = None
        self.lengths = np.array([len(row) for row in ids])
        offsets = np.concatenate([[0], self.lengths.cumsum()])
        self._ragged = {"ids": (np.concatenate(ids), offsets)}


def train_gristmill(
    train: Split,
    validation: Split,
    encoder: TextEncoder,
    epochs: int,
    seed: int,
) -> tuple[float, float]:
    """Train with the engine. Return samples per second and the accuracy on validation (0 to 1)."""
    # `fit` does the same.
    keep_freed_memory()
    torch.manual_seed(seed)
    architecture = base.models(TASK).architectures["transformer"]
    module = architecture.build(architecture.Config.model_validate(CONFIG), encoder).train()
    params = FitParams(
        workers=1,
        batch_size=BATCH,
        learning_rate=RATE,
    )
    train_step = TrainStep(module, base.learning(TASK), params)
    rows = InMemory(train, encoder)
    step = 0
    start = time.perf_counter()
    for epoch in range(epochs):
        batches = plan(rows.lengths, BATCH, seed, epoch)
        for batch in batches:
            arrays = train_step.put(rows.batch(batch, packed=True))
            train_step.step(
                [arrays], len(batch), learning_rate_at(step, len(batches) * epochs, params)
            )
            step += 1
    speed = len(rows) * epochs / (time.perf_counter() - start)
    evaluated = InMemory(validation, encoder)
    parts = in_order(evaluated.lengths, 256)
    metrics = train_step.validate(evaluated.batch(part, packed=True) for part in parts)
    return speed, metrics["accuracy"]


def bert(encoder: TextEncoder) -> Any:
    """Return a BERT of 4 layers of 256 with random weights."""
    from transformers import BertConfig, BertForSequenceClassification

    config = BertConfig(
        vocab_size=encoder.vocabulary,
        hidden_size=256,
        num_hidden_layers=4,
        num_attention_heads=4,
        intermediate_size=1024,
        max_position_embeddings=LONGEST,
        num_labels=len(encoder.targets["classes"]),
    )
    return BertForSequenceClassification(config)


def collate_to(rows: Sequence[dict[str, Any]], width: int) -> dict[str, torch.Tensor]:
    """Return a batch that is padded to a width in tokens."""
    ids = torch.zeros(len(rows), width, dtype=torch.long)
    for i, row in enumerate(rows):
        ids[i, : len(row["input_ids"])] = torch.as_tensor(row["input_ids"])
    return {
        "input_ids": ids,
        "attention_mask": (ids != 0).long(),
        "labels": torch.tensor([row["labels"] for row in rows]),
    }


def collate_default(rows: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
    """Return a batch that is padded to the greatest length."""
    return collate_to(rows, LONGEST)


def collate_tuned(rows: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
    """Return a batch that is padded to its longest row."""
    return collate_to(rows, max(len(row["input_ids"]) for row in rows))


def trainer_rows(split: Split) -> list[dict[str, Any]]:
    """Return rows as Trainer takes them."""
    return [
        {"input_ids": ids.tolist(), "labels": int(label), "length": len(ids)}
        for ids, label in zip(*split, strict=True)
    ]


def train_huggingface(
    train: Split,
    validation: Split,
    encoder: TextEncoder,
    epochs: int,
    seed: int,
    tuned: bool,
    steps: int = -1,
) -> tuple[float, float]:
    """Train with Hugging Face's Trainer. Return samples per second and accuracy.

    With a number of steps there is no evaluation, and the accuracy is NaN.
    """
    from transformers import Trainer, TrainingArguments, set_seed

    set_seed(seed)
    module = bert(encoder)
    collate = collate_default
    extra: dict[str, Any] = {}
    if tuned:
        collate = collate_tuned
        has_bf16 = fast_precision(module) == "bf16"
        extra = {"bf16": has_bf16, "train_sampling_strategy": "group_by_length"}
    with tempfile.TemporaryDirectory() as folder:
        options = TrainingArguments(
            folder,
            use_cpu=True,
            per_device_train_batch_size=BATCH,
            per_device_eval_batch_size=256,
            num_train_epochs=epochs,
            max_steps=steps,
            learning_rate=RATE,
            warmup_steps=0.06,
            lr_scheduler_type="cosine",
            seed=seed,
            save_strategy="no",
            logging_strategy="no",
            report_to=[],
            disable_tqdm=True,
            remove_unused_columns=False,
            **extra,
        )
        rows = trainer_rows(train)
        run: Any = Trainer(
            module,
            options,
            collate,
            train_dataset=rows,
            eval_dataset=trainer_rows(validation),
            compute_metrics=accuracy_metric,
        )
        start = time.perf_counter()
        run.train()
        seconds = time.perf_counter() - start
        if steps > 0:
            return BATCH * steps / seconds, float("nan")
        return len(rows) * epochs / seconds, run.evaluate()["eval_accuracy"]


def accuracy_metric(output: Any) -> dict[str, float]:
    """Return the accuracy, in the form that Trainer requires."""
    return {"accuracy": float((output.predictions.argmax(1) == output.label_ids).mean())}


def measure_arm(name: str, rows: int, seed: int) -> float:
    """Return the samples per second of one arm over some rows.

    All steps of the defaults cost the same, so that arm runs four steps only.
    """
    data = read_data()
    encoder = data["encoder"]
    train = sample(data["train"], rows, seed)
    validation = sample(train, BATCH, seed)
    if name == "gristmill":
        return train_gristmill(train, validation, encoder, 1, seed)[0]
    tuned = name == "tuned"
    steps = 4 if name == "defaults" else -(-rows // BATCH)
    return train_huggingface(train, validation, encoder, 1, seed, tuned=tuned, steps=steps)[0]


def run_arm(name: str, rows: int, seed: int) -> float:
    """Return the samples per second of one arm, measured in another process."""
    words = ["arm", "--name", name, "--rows", str(rows), "--seeds", str(seed)]
    process = subprocess.run(
        [sys.executable, __file__, *words],
        check=True,
        capture_output=True,
        text=True,
    )
    return float(process.stdout.splitlines()[-1])


def throughput(rounds: int, rows: int) -> None:
    """Print samples/s of each arm and the ratios. The arms run one after the other, by round."""
    arms: dict[str, list[float]] = {"defaults": [], "tuned": [], "gristmill": []}
    for number in range(rounds):
        for name, speeds in arms.items():
            speeds.append(run_arm(name, rows, number))
        print({name: round(speeds[-1], 1) for name, speeds in arms.items()}, flush=True)
    for name, speeds in arms.items():
        ratios = [ours / other for ours, other in zip(arms["gristmill"], speeds, strict=True)]
        shown = f"{statistics.median(speeds):.1f} samples/s ({min(speeds):.1f}-{max(speeds):.1f})"
        ratio = f"{statistics.median(ratios):.2f}x ({min(ratios):.2f}-{max(ratios):.2f})"
        print(f"| {name} | {shown} | gristmill is {ratio} | {processor_name()} |")


def accuracy(seeds: int, rows: int, epochs: int) -> None:
    """Print the accuracy on validation by arm and seed, and the difference."""
    data = read_data()
    encoder = data["encoder"]
    validation = data["validation"]
    differences = []
    for seed in range(seeds):
        train = sample(data["train"], rows, seed)
        our_speed, ours = train_gristmill(train, validation, encoder, epochs, seed)
        their_speed, theirs = train_huggingface(
            train, validation, encoder, epochs, seed, tuned=True
        )
        differences.append(100 * (ours - theirs))
        print(
            f"seed {seed}: gristmill {ours:.4f} ({our_speed:.0f} samples/s), "
            f"HF Trainer tuned {theirs:.4f} ({their_speed:.0f} samples/s)",
            flush=True,
        )
    error = float("nan")
    if seeds > 1:
        error = statistics.stdev(differences) / len(differences) ** 0.5
    print(
        f"| accuracy, {rows} rows, {epochs} epochs, {seeds} seeds "
        f"| difference {statistics.mean(differences):+.2f} points, standard error {error:.2f} "
        f"| {processor_name()} |"
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
        print(measure_arm(chosen.name, chosen.rows, chosen.seeds))
    elif chosen.what == "throughput":
        throughput(chosen.rounds, chosen.rows)
    else:
        accuracy(chosen.seeds, chosen.rows, chosen.epochs)
