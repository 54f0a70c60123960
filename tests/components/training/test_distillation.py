"""A teacher that is asked once: the same lessons, and rows without a target among them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from stage_runner import StageRunner

from components.core.tables import read_manifest, read_table, write_table
from components.training.batches import EncodedRows, load_encoder
from components.training.distillation import write_teacher_answers
from components.training.fit_config import FitConfig
from components.training.loop import fit

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def lesson(reviews: StageRunner, network: Path, tmp_path: Path) -> FitConfig:
    """A student of `network`, with the rows of test as rows without a target."""
    tokens = reviews.root / "tokens"
    counts = ("rows", "parts", "schema", "shards")
    facts = {name: value for name, value in read_manifest(tokens).items() if name not in counts}
    parts = {split: read_table(tokens, split) for split in ("train", "validation", "test")}
    target = pa.array([-1] * parts["test"].num_rows, pa.int64())
    column = parts["test"].column_names.index("target")
    unlabeled = parts["test"].set_column(column, "target", target)
    write_table(tmp_path / "tokens", {**parts, "unlabelled": unlabeled}, facts)
    (tmp_path / "tokens" / "encoder").symlink_to(tokens / "encoder")
    spec = reviews.spec(tmp_path / "asked", epochs=2)
    return replace(
        spec, tokens=tmp_path / "tokens", teacher=network, temperature=2.0, teacher_weight=0.7
    )


def test_a_teacher_asked_once_teaches_the_same(lesson: FitConfig, tmp_path: Path) -> None:
    asked = fit(lesson)
    path = tmp_path / "teacher.npy"
    write_teacher_answers(lesson, path)
    told = fit(replace(lesson, state=tmp_path / "told", teacher_answers=path))
    for one, other in zip(asked.curve, told.curve, strict=True):
        assert one["train_loss"] == pytest.approx(other["train_loss"], rel=1e-4)


def test_the_answers_are_those_to_the_rows_in_their_order(
    lesson: FitConfig, tmp_path: Path
) -> None:
    spec = replace(lesson, unlabeled=True)
    path = tmp_path / "teacher.npy"
    write_teacher_answers(spec, path)
    answers = np.load(path)
    labeled = len(EncodedRows(spec.tokens, "train", load_encoder(spec.tokens, spec.task)))
    unlabeled = read_table(spec.tokens, "unlabelled").num_rows
    assert answers.shape == (labeled + unlabeled, 2) and answers.dtype == np.float32
    # The teacher knows its train rows, so an order of their own would be seen.
    target = read_table(spec.tokens, "train")["target"].to_numpy()
    assert (answers[:labeled].argmax(1) == target).mean() > 0.95
    # What is there is complete, and stays.
    path.write_bytes(b"kept")
    write_teacher_answers(spec, path)
    assert path.read_bytes() == b"kept"


def test_rows_without_a_target_are_learned_with_a_teacher(
    lesson: FitConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = replace(lesson, unlabeled=True, teacher_answers=tmp_path / "teacher.npy")
    write_teacher_answers(spec, tmp_path / "teacher.npy")
    monkeypatch.setattr("components.inference.predictor.load_module", None)
    result = fit(spec)
    rows = EncodedRows(spec.tokens, spec.splits, load_encoder(spec.tokens, spec.task))
    assert -1 in rows.target
    assert result.curve[0]["step"] == -(-len(rows) // 32)
    assert all(np.isfinite(row["train_loss"]) for row in result.curve)
