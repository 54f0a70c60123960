"""A column of texts goes through clean and tokenize into a bundle, and answers raw values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from stage_runner import StageRunner

from components.core.cards import Card
from components.core.tables import read_manifest, read_table, write_table
from components.inference.predictor import load
from components.monitoring.profile import Profiler
from components.orchestration.pipeline_params import section_model
from components.tasks import base
from components.tasks.shared.baselines.tables.classical import EnsembleParams, TableClassical
from components.training.bundle_writer import save_numpy

TASK = "tabular_regression"
INPUTS = {"note": {"kind": "text", "components": 4}, "rooms": {"kind": "number"}}
WORDS = {0: "dark damp small", 1: "plain simple usual", 2: "bright sunny spacious"}


def raw_rows(count: int) -> list[dict[str, Any]]:
    """Return homes whose price is that of the words of their notes; some have no note."""
    rng = np.random.default_rng(0)
    rows: list[dict[str, Any]] = []
    for number in range(count):
        worth = int(rng.integers(0, 3))
        words = rng.choice(WORDS[worth].split(), 6)
        row: dict[str, Any] = {"id": f"r{number:04d}", "origin": f"a.csv:{number}"}
        row |= {"split": None, "group": None, "rooms": float(rng.integers(1, 6))}
        row |= {"note": f"<p>A {' '.join(words)} home, no. {number}</p>"}
        if number % 10 == 0:
            row["note"] = ["", None, "n/a"][number % 3]
        rows.append(row | {"target": 100.0 * worth + rng.normal()})
    return rows


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> StageRunner:
    """The stages of a pipeline with texts, run up to tokenize."""
    root = tmp_path_factory.mktemp("texts")
    chosen = base.schema(TASK).with_inputs(INPUTS).chosen
    manifest = {"task": TASK, **base.inputs_entry(chosen)}
    schema = pa.schema(
        [
            *((name, pa.string()) for name in ("id", "origin", "split", "group", "note")),
            *((name, pa.float64()) for name in ("rooms", "target")),
        ]
    )
    table = pa.Table.from_pylist(raw_rows(300), schema=schema)
    write_table(root / "raw", {"rows": table}, manifest)
    sections = {}
    for stage in ("clean", "augment", "tokenize"):
        sections[stage] = section_model(stage, TASK).model_validate({})
    return StageRunner(root, TASK, sections).all()


def test_clean_keeps_rows_without_a_text(line: StageRunner) -> None:
    notes = [row["note"] for row in line.rows("clean", "train")]
    assert all(note is None or note.startswith("A ") for note in notes)
    assert 10 < notes.count(None) < 40
    assert sum(len(line.rows("clean", part)) for part in ("train", "validation", "test")) == 300


def test_drift_is_measured_by_lengths_and_missing_texts(line: StageRunner) -> None:
    profile = line.manifest("tokens")["profile"]
    assert {"note.length", "note.missing"} < set(profile["fields"])
    inputs = line.manifest("tokens")[base.INPUTS]
    profiler = Profiler(TASK, {**profile, **base.inputs_entry(inputs)})
    assert profiler.features({"note": "<b>Sunny</b> home"}) == {
        "note.length": 10.0,
        "note.missing": "no",
    }
    assert profiler.features({"note": ""}) == {"note.missing": "yes"}


def test_a_bundle_answers_raw_texts(line: StageRunner, tmp_path: Path) -> None:
    clean = line.root / "clean"
    targets = base.schema(TASK).targets.info(read_manifest(clean))
    options = TableClassical(classical=EnsembleParams(trees=30, folds=3))
    baseline = base.baselines(TASK).baselines["classical"]
    inputs = line.manifest("tokens")[base.INPUTS]
    train = read_table(clean, "train")
    arrays, files = baseline.fit(train, targets, options, line.sections["clean"], 7, inputs=inputs)
    assert set(files) == {"columns.json", "texts.safetensors"}
    card = Card(TASK, "numpy", "classical", {}, targets, 7, "ab" * 32, "cd" * 32, ["train"])
    save_numpy(tmp_path / "bundle", card, arrays, files)
    predictor = load(tmp_path / "bundle")
    evaluator = base.evaluator(TASK)
    rows = [
        {"note": "bright and sunny &amp; spacious", "rooms": 2},
        {"note": "dark, damp", "rooms": 2},
        {"note": None, "rooms": 2},
    ]
    queries = [evaluator.Query.model_validate(row) for row in rows]
    answers = [answer.value for answer in predictor.predict(queries)]
    assert answers[0] - answers[1] > 100
    assert answers[1] < answers[2] < answers[0]
