"""Row "accuracy on the clean reviews, from scratch": networks of params.yaml against the linear baseline tuned on validation, and what they say together.

    python benchmarks/accuracy.py --seeds 5                  # all arms
    python benchmarks/accuracy.py --seeds 5 --arms counted

Needs data/clean and data/tokens of the default pipeline (dvc repro tokenize). The baseline's n-grams and C are chosen on validation, the networks' epochs too; test is
only counted. Together: the mean of log-probabilities. CPU-seconds are those of the fits. The interval is a paired bootstrap over the test rows, seeds averaged.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file

from components.core.params import read_yaml
from components.core.tables import read_manifest, read_table
from components.tasks import base
from components.training.batches import EncodedRows, in_order, load_encoder
from components.training.fit_config import FitConfig
from components.training.loop import fit
from components.training.params import FitParams
from components.training.train_step import TrainStep

ROOT = Path(__file__).resolve().parent.parent
TASK, SPLITS, RESAMPLES = "text_classification", ("validation", "test"), 2000
LATE = {
    "label_smoothing": 0.0,
    "patience": 6,
}  # the n-grams' weights are best when the rate has come down
FILTERS = {"width": 64, "channels": 64, "kernels": [1, 2, 3], "dropout": 0.5}
ARMS: Mapping[
    str, tuple[str, Mapping[str, Any], Mapping[str, Any]]
] = {  # architecture, what differs from params.yaml in its config and in the fit
    "textcnn": ("textcnn", {}, {}),
    "counted": ("counted", {}, LATE),
    "counted and textcnn in one": ("counted", {"textcnn": FILTERS}, LATE),
}
Scores = dict[str, NDArray[np.float64]]  # split -> log-probabilities (n, c)


def truth(data: Path) -> dict[str, NDArray[np.int64]]:
    """Class indices (n,) by split, in the order of the tokens."""
    encoder = load_encoder(data / "tokens", TASK)
    return {split: EncodedRows(data / "tokens", split, encoder).target for split in SPLITS}


def log_softmax(logits: NDArray[Any]) -> NDArray[np.float64]:
    """(n, c) in, (n, c) out."""
    shifted = logits.astype(np.float64) - logits.max(1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(1, keepdims=True)))


def linear(data: Path, ngrams: int, strength: float) -> tuple[Scores, float]:
    """The classical baseline with these knobs, and its CPU-seconds."""
    baseline, params = base.baselines(TASK).baselines["classical"], read_yaml(ROOT / "params.yaml")
    options = (
        base.baselines(TASK)
        .options["train"]
        .model_validate({"classical": {"ngrams": ngrams, "min_documents": 2, "C": strength}})
    )
    clean = (
        base.schema(TASK)
        .options["clean"]
        .model_validate(
            {
                name: params["clean"][name]
                for name in base.schema(TASK).options["clean"].model_fields
            }
        )
    )
    began = time.process_time()
    arrays, files = baseline.fit(
        read_table(data / "clean", "train"),
        read_manifest(data / "tokens")["classes"],
        options,
        clean,
        7,
    )
    spent = time.process_time() - began
    ask, score = baseline.featurizer(files), baseline.scorer(arrays)
    texts = {split: read_table(data / "clean", split)["text"].to_pylist() for split in SPLITS}
    return {
        split: log_softmax(score("forward", ask({"text": rows}))["logits"])
        for split, rows in texts.items()
    }, spent


def network(data: Path, arm: str, seed: int) -> tuple[Scores, float]:
    """The network as `train` fits it, by one process of one thread, and its CPU-seconds."""
    architecture, config, more = ARMS[arm]
    train = read_yaml(ROOT / "params.yaml")["train"]
    knobs = FitParams.model_validate(
        {name: train[name] for name in FitParams.model_fields if name in train}
        | {"workers": 1}
        | dict(more)
    )
    began = time.process_time()
    with tempfile.TemporaryDirectory() as state:
        spec = FitConfig(
            TASK,
            data / "tokens",
            architecture,
            train["nets"][architecture] | config,
            knobs,
            {},
            seed,
            Path(state),
        )
        fitted = fit(spec)
        spent, weights = time.process_time() - began, load_file(fitted.weights)
    encoder, kind = (
        load_encoder(data / "tokens", TASK),
        base.models(TASK).architectures[architecture],
    )
    module = kind.build(kind.Config.model_validate(spec.config), encoder)
    module.load_state_dict(weights)
    return {
        split: scores(
            TrainStep(module.eval(), base.learning(TASK), knobs),
            EncodedRows(data / "tokens", split, encoder),
        )
        for split in SPLITS
    }, spent


@torch.no_grad()
def scores(learner: TrainStep, rows: EncodedRows) -> NDArray[np.float64]:
    """Log-probabilities (n, c) of padded batches."""
    found = np.zeros((len(rows), len(rows.encoder.classes)))
    for part in in_order(rows.lengths, 256):
        batch = {
            name: value for name, value in learner.put(rows.batch(part)).items() if name != "target"
        }
        found[part] = log_softmax(learner.module(**batch).float().numpy())
    return found


def interval(gains: NDArray[np.float64]) -> tuple[float, float]:
    """Of the mean of gains (n,) over the test rows, 95%."""
    rng = np.random.default_rng(7)
    low, high = np.percentile(
        [gains[rng.integers(0, len(gains), len(gains))].mean() for _ in range(RESAMPLES)],
        [2.5, 97.5],
    )
    return float(low), float(high)


def tuned(data: Path, right: Mapping[str, NDArray[np.int64]]) -> Scores:
    """The baseline that is best on validation."""
    grid = {
        (ngrams, strength): linear(data, ngrams, strength)
        for ngrams in (3, 4, 5)
        for strength in (2.0, 4.0, 8.0)
    }
    hits = {
        key: {split: 100 * (found[split].argmax(1) == right[split]).mean() for split in SPLITS}
        for key, (found, _) in grid.items()
    }
    ngrams, strength = chosen = max(grid, key=lambda key: hits[key]["validation"])
    print(
        f"linear, {ngrams}-grams, C {strength}: validation {hits[chosen]['validation']:.2f}, test {hits[chosen]['test']:.2f}, {grid[chosen][1]:.0f} CPU-s",
        flush=True,
    )
    return grid[chosen][0]


def main(data: Path, arms: Sequence[str], seeds: int) -> None:
    """Print a line per fit, and a row per arm and per company of arms."""
    right = truth(data)
    baseline = tuned(data, right)
    found: dict[str, list[Scores]] = {}
    spent: dict[str, list[float]] = {arm: [] for arm in arms}
    for seed in range(seeds):
        for arm in arms:
            fitted, cost = network(data, arm, seed)
            found.setdefault(arm, []).append(fitted)
            spent[arm].append(cost)
            print(
                f"seed {seed} {arm}: validation {100 * (fitted['validation'].argmax(1) == right['validation']).mean():.2f}, {cost:.0f} CPU-s",
                flush=True,
            )
    for company in [
        *([arm] for arm in arms),
        *([arm, "linear"] for arm in arms),
        *([[*arms, "linear"]] if len(arms) > 1 else []),
    ]:
        together = [
            {
                split: sum(
                    baseline[split] if name == "linear" else found[name][seed][split]
                    for name in company
                )
                for split in SPLITS
            }
            for seed in range(seeds)
        ]
        hits = {
            split: np.array([each[split].argmax(1) == right[split] for each in together])
            for split in SPLITS
        }  # (seeds, n)
        points = [float(100 * seed.mean()) for seed in hits["test"]]
        gains = 100 * (hits["test"].mean(0) - (baseline["test"].argmax(1) == right["test"]))
        low, high = interval(gains)
        cost = statistics.mean(
            sum(spent[name][seed] for name in company if name != "linear") for seed in range(seeds)
        )
        print(
            f"| {' + '.join(company)} | {100 * hits['validation'].mean():.2f} | {statistics.mean(points):.2f} ({min(points):.2f} to {max(points):.2f}) "
            f"| {gains.mean():+.2f} ({low:+.2f} to {high:+.2f}) | {cost:.0f} |"
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=ROOT / "data")
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--seeds", type=int, default=5)
    given = parser.parse_args()
    torch.set_num_threads(1)
    main(given.data, given.arms, given.seeds)
