"""Row "accuracy on the clean reviews, from scratch".

Networks of params.yaml against the linear baseline tuned on validation, alone and combined.

    python benchmarks/accuracy.py --seeds 5                  # all arms
    python benchmarks/accuracy.py --seeds 5 --arms counted

Needs data/clean and data/tokens of the default pipeline (dvc repro tokenize). The baseline's
n-grams and C are chosen on validation, the networks' epochs too. Test is only counted. A
combination is the mean of log-probabilities. CPU-seconds are those of the fits. The interval is a
paired bootstrap over the test rows, with seeds averaged."""

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
from components.tasks.shared.loss.classification.params import LossParams
from components.training.batches import EncodedRows, in_order, load_encoder
from components.training.fit_config import FitConfig
from components.training.loop import fit
from components.training.params import FitParams
from components.training.train_step import TrainStep

ROOT = Path(__file__).resolve().parent.parent
TASK = "text_classification"
SPLITS = ("validation", "test")
RESAMPLES = 2000
# The n-grams' weights are best when the learning rate has come down.
LATE = {"label_smoothing": 0.0, "patience": 6}
FILTERS = {
    "width": 64,
    "channels": 64,
    "kernels": [1, 2, 3],
    "dropout": 0.5,
}
# Arm -> architecture, changes of its config, changes of the fit; all against params.yaml.
ARMS: Mapping[str, tuple[str, Mapping[str, Any], Mapping[str, Any]]] = {
    "textcnn": ("textcnn", {}, {}),
    "counted": ("counted", {}, LATE),
    "counted and textcnn in one": ("counted", {"textcnn": FILTERS}, LATE),
}
# Split -> log-probabilities (n, c).
Scores = dict[str, NDArray[np.float64]]
# Split -> class indices (n,).
Targets = Mapping[str, NDArray[np.int64]]


def read_targets(data: Path) -> dict[str, NDArray[np.int64]]:
    """Return the class indices (n,) by split, in the order of the tokens."""
    encoder = load_encoder(data / "tokens", TASK)
    return {split: EncodedRows(data / "tokens", split, encoder).target for split in SPLITS}


def log_softmax(logits: NDArray[Any]) -> NDArray[np.float64]:
    """Return the log-probabilities (n, c) of logits (n, c)."""
    shifted = logits.astype(np.float64) - logits.max(1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(1, keepdims=True)))


def accuracy_of(scores: Scores, targets: Targets, split: str) -> float:
    """Return the accuracy on a split, in percent."""
    return float(100 * (scores[split].argmax(1) == targets[split]).mean())


def fit_linear(data: Path, ngrams: int, strength: float) -> tuple[Scores, float]:
    """Return the scores of the classical baseline with these params, and its CPU-seconds."""
    baselines = base.baselines(TASK)
    baseline = baselines.baselines["classical"]
    params = read_yaml(ROOT / "params.yaml")
    options = baselines.options["train"].model_validate(
        {"classical": {"ngrams": ngrams, "min_documents": 2, "C": strength}}
    )
    clean_model = base.schema(TASK).options["clean"]
    clean = clean_model.model_validate(
        {name: params["clean"][name] for name in clean_model.model_fields}
    )
    began = time.process_time()
    table = read_table(data / "clean", "train")
    classes = read_manifest(data / "tokens")["classes"]
    arrays, files = baseline.fit(table, {"classes": classes}, options, clean, 7)
    spent = time.process_time() - began
    features = baseline.featurizer(files)
    score = baseline.scorer(arrays)
    scores: Scores = {}
    for split in SPLITS:
        texts = read_table(data / "clean", split)["text"].to_pylist()
        scores[split] = log_softmax(score("forward", features({"text": texts}))["logits"])
    return scores, spent


def fit_network(data: Path, arm: str, seed: int) -> tuple[Scores, float]:
    """Return the scores of a network, and the CPU-seconds of its fit.

    `train` fits it the same way, here with one process of one thread.
    """
    architecture, config, changes = ARMS[arm]
    train = read_yaml(ROOT / "params.yaml")["train"]
    values = train | {"workers": 1} | dict(changes)
    fit_params = {name: values[name] for name in FitParams.model_fields if name in values}
    params = FitParams.model_validate(fit_params)
    loss_params = {name: values[name] for name in LossParams.model_fields if name in values}
    objective = LossParams.model_validate(loss_params)
    began = time.process_time()
    with tempfile.TemporaryDirectory() as state:
        spec = FitConfig(
            TASK,
            data / "tokens",
            architecture,
            train["nets"][architecture] | config,
            params,
            {},
            seed,
            Path(state),
            loss_params=objective,
        )
        result = fit(spec)
        spent = time.process_time() - began
        weights = load_file(result.weights)
    encoder = load_encoder(data / "tokens", TASK)
    kind = base.models(TASK).architectures[architecture]
    module = kind.build(kind.Config.model_validate(spec.config), encoder)
    module.load_state_dict(weights)
    scores: Scores = {}
    for split in SPLITS:
        step = TrainStep(module.eval(), base.learning(TASK), params)
        scores[split] = score_rows(step, EncodedRows(data / "tokens", split, encoder))
    return scores, spent


@torch.no_grad()
def score_rows(step: TrainStep, rows: EncodedRows) -> NDArray[np.float64]:
    """Return the log-probabilities (n, c) of rows, computed in padded batches."""
    scores = np.zeros((len(rows), len(rows.encoder.targets["classes"])))
    for part in in_order(rows.lengths, 256):
        batch = dict(step.put(rows.batch(part)))
        batch.pop("target", None)
        scores[part] = log_softmax(step.module(**batch).float().numpy())
    return scores


def bootstrap_interval(gains: NDArray[np.float64]) -> tuple[float, float]:
    """Return the 95% interval of the mean of gains (n,) over the test rows."""
    rng = np.random.default_rng(7)
    means = [gains[rng.integers(0, len(gains), len(gains))].mean() for _ in range(RESAMPLES)]
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


def tune_linear(data: Path, targets: Targets) -> Scores:
    """Return the scores of the baseline that is best on validation."""
    best: Scores = {}
    best_accuracy = -1.0
    line = ""
    for ngrams in (3, 4, 5):
        for strength in (2.0, 4.0, 8.0):
            scores, spent = fit_linear(data, ngrams, strength)
            validation = accuracy_of(scores, targets, "validation")
            if validation > best_accuracy:
                best = scores
                best_accuracy = validation
                test = accuracy_of(scores, targets, "test")
                line = (
                    f"linear, {ngrams}-grams, C {strength}: validation {validation:.2f}, "
                    f"test {test:.2f}, {spent:.0f} CPU-s"
                )
    print(line, flush=True)
    return best


def main(data: Path, arms: Sequence[str], seeds: int) -> None:
    """Print a line for each fit, and a row for each arm and each combination."""
    targets = read_targets(data)
    baseline = tune_linear(data, targets)
    scores: dict[str, list[Scores]] = {arm: [] for arm in arms}
    spent: dict[str, list[float]] = {arm: [] for arm in arms}
    for seed in range(seeds):
        for arm in arms:
            fitted, cost = fit_network(data, arm, seed)
            scores[arm].append(fitted)
            spent[arm].append(cost)
            validation = accuracy_of(fitted, targets, "validation")
            print(
                f"seed {seed} {arm}: validation {validation:.2f}, {cost:.0f} CPU-s",
                flush=True,
            )
    scores["linear"] = [baseline] * seeds
    spent["linear"] = [0.0] * seeds
    combinations = [[arm] for arm in arms] + [[arm, "linear"] for arm in arms]
    if len(arms) > 1:
        combinations.append([*arms, "linear"])
    for names in combinations:
        show_combination(names, scores, spent, targets)


def combine(
    names: Sequence[str],
    scores: Mapping[str, Sequence[Scores]],
    seed: int,
    split: str,
) -> NDArray[np.float64]:
    """Return the sum of the log-probabilities (n, c) of some arms."""
    return np.asarray(sum(scores[name][seed][split] for name in names))


def show_combination(
    names: Sequence[str],
    scores: Mapping[str, Sequence[Scores]],
    spent: Mapping[str, Sequence[float]],
    targets: Targets,
) -> None:
    """Print the row of one combination: accuracy, gain over the baseline, CPU-seconds."""
    seeds = range(len(scores["linear"]))
    hits: dict[str, NDArray[np.bool_]] = {}  # (seeds, n)
    for split in SPLITS:
        totals = [combine(names, scores, seed, split) for seed in seeds]
        hits[split] = np.array([total.argmax(1) == targets[split] for total in totals])
    points = [float(100 * seed_hits.mean()) for seed_hits in hits["test"]]
    baseline_hits = scores["linear"][0]["test"].argmax(1) == targets["test"]
    gains = 100 * (hits["test"].mean(0) - baseline_hits)
    low, high = bootstrap_interval(gains)
    costs = [spent[name] for name in names]
    cost = statistics.mean(sum(seed_costs) for seed_costs in zip(*costs, strict=True))
    print(
        f"| {' + '.join(names)} | {100 * hits['validation'].mean():.2f} "
        f"| {statistics.mean(points):.2f} ({min(points):.2f} to {max(points):.2f}) "
        f"| {gains.mean():+.2f} ({low:+.2f} to {high:+.2f}) | {cost:.0f} |"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=ROOT / "data")
    parser.add_argument(
        "--arms",
        nargs="+",
        choices=ARMS,
        default=list(ARMS),
    )
    parser.add_argument("--seeds", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    main(options.data, options.arms, options.seeds)
