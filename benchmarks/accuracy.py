"""Row "accuracy on the clean reviews, from scratch": a network of params.yaml against the linear baseline tuned on validation, and both together.

    python benchmarks/accuracy.py --architecture textcnn --seeds 5

Needs data/clean and data/tokens of the default pipeline (dvc repro tokenize). The baseline's n-grams and C are chosen on validation, the network's epoch and whether
both together are better, too; test is only counted. Both together: the mean of their log-probabilities. CPU-seconds are those of the fit.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file

from components.core.params import read_yaml
from components.core.tables import read_manifest, read_table
from components.engine.data import Rows, in_order, load_encoder
from components.engine.learner import Supervised
from components.engine.loop import fit
from components.engine.params import FitParams
from components.engine.spec import FitSpec
from components.tasks import base

ROOT = Path(__file__).resolve().parent.parent
TASK, SPLITS = "text_classification", ("validation", "test")
Scores = dict[str, NDArray[np.float64]]  # split -> log-probabilities (n, c)


def truth(data: Path) -> dict[str, NDArray[np.int64]]:
    """Class indices (n,) by split, in the order of the tokens."""
    encoder = load_encoder(data / "tokens", TASK)
    return {split: Rows(data / "tokens", split, encoder).target for split in SPLITS}


def log_softmax(logits: NDArray[Any]) -> NDArray[np.float64]:
    """(n, c) in, (n, c) out."""
    shifted = logits.astype(np.float64) - logits.max(1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(1, keepdims=True)))


def linear(data: Path, ngrams: int, strength: float) -> tuple[Scores, float]:
    """The classical baseline with these knobs, and its CPU-seconds."""
    baseline, params = base.baselines(TASK).baselines["classical"], read_yaml(ROOT / "params.yaml")
    options = base.baselines(TASK).options["train"].model_validate({"classical": {"ngrams": ngrams, "min_documents": 2, "C": strength}})
    clean = base.schema(TASK).options["clean"].model_validate({name: params["clean"][name] for name in base.schema(TASK).options["clean"].model_fields})
    began = time.process_time()
    arrays, files = baseline.fit(read_table(data / "clean", "train"), read_manifest(data / "tokens")["classes"], options, clean, 7)
    spent = time.process_time() - began
    ask, score = baseline.featuriser(files), baseline.scorer(arrays)
    texts = {split: read_table(data / "clean", split)["text"].to_pylist() for split in SPLITS}
    return {split: log_softmax(score("forward", ask({"text": rows}))["logits"]) for split, rows in texts.items()}, spent


def network(data: Path, architecture: str, seed: int) -> tuple[Scores, float]:
    """The network as `train` fits it, by one process of one thread, and its CPU-seconds."""
    train = read_yaml(ROOT / "params.yaml")["train"]
    knobs = FitParams.model_validate({name: train[name] for name in FitParams.model_fields if name in train} | {"workers": 1})
    began = time.process_time()
    with tempfile.TemporaryDirectory() as state:
        spec = FitSpec(TASK, data / "tokens", architecture, train["nets"][architecture], knobs, {}, seed, Path(state))
        fitted = fit(spec)
        spent, weights = time.process_time() - began, load_file(fitted.weights)
    encoder, kind = load_encoder(data / "tokens", TASK), base.models(TASK).architectures[architecture]
    module = kind.build(kind.Config.model_validate(spec.config), encoder)
    module.load_state_dict(weights)
    return {split: scores(Supervised(module.eval(), base.learning(TASK), knobs), Rows(data / "tokens", split, encoder)) for split in SPLITS}, spent


@torch.no_grad()
def scores(learner: Supervised, rows: Rows) -> NDArray[np.float64]:
    """Log-probabilities (n, c) of padded batches."""
    found = np.zeros((len(rows), len(rows.encoder.classes)))
    for part in in_order(rows.lengths, 256):
        batch = {name: value for name, value in learner.put(rows.batch(part)).items() if name != "target"}
        found[part] = log_softmax(learner.module(**batch).float().numpy())
    return found


def main(data: Path, architecture: str, seeds: int) -> None:
    """Print a line per fit and the row."""
    right = truth(data)

    def accuracy(found: Scores, split: str) -> float:
        return 100 * float((found[split].argmax(1) == right[split]).mean())

    grid = {(ngrams, strength): linear(data, ngrams, strength) for ngrams in (3, 4, 5) for strength in (2.0, 4.0, 8.0)}
    chosen = max(grid, key=lambda key: accuracy(grid[key][0], "validation"))
    baseline, spent = grid[chosen]
    print(f"linear, {chosen[0]}-grams, C {chosen[1]}: validation {accuracy(baseline, 'validation'):.2f}, test {accuracy(baseline, 'test'):.2f}, {spent:.0f} CPU-s", flush=True)
    gains: dict[str, list[float]] = {architecture: [], "both": []}
    for seed in range(seeds):
        found, spent = network(data, architecture, seed)
        both = {split: found[split] + baseline[split] for split in SPLITS}
        for name, each in ((architecture, found), ("both", both)):
            gains[name].append(accuracy(each, "test") - accuracy(baseline, "test"))
            print(f"seed {seed} {name}: validation {accuracy(each, 'validation'):.2f}, test {accuracy(each, 'test'):.2f}, {spent:.0f} CPU-s", flush=True)
    for name, points in gains.items():
        print(f"| {name} against the linear baseline, test, {seeds} seeds | {statistics.mean(points):+.2f} points ({min(points):+.2f} to {max(points):+.2f}) |")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=ROOT / "data")
    parser.add_argument("--architecture", default="textcnn")
    parser.add_argument("--seeds", type=int, default=5)
    given = parser.parse_args()
    torch.set_num_threads(1)
    main(given.data, given.architecture, given.seeds)
