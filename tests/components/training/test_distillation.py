"""A teacher that is asked once: the same lessons, and rows without a target among them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from safetensors.torch import load_file
from stage_runner import StageRunner

from components.core.tables import read_manifest, read_table, write_table
from components.inference.predictor import load_module
from components.tasks import base
from components.training.batches import EncodedRows, load_encoder
from components.training.bundle_writer import save_torch
from components.training.distillation import relation_loss, write_teacher_answers
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


def test_relations_of_tokens_do_not_depend_on_width_turn_length_or_padding() -> None:
    torch.manual_seed(0)
    teacher = torch.randn(3, 5, 8)
    mask = torch.ones(3, 5)
    mask[1, 3:] = 0
    turn = torch.linalg.qr(torch.randn(12, 12)).Q[:8]
    student = 3 * teacher @ turn  # (3, 5, 12)
    student[1, 3:] = torch.randn(2, 12)
    torch.testing.assert_close(relation_loss(student, teacher, mask), torch.zeros(3))
    other = torch.randn(3, 5, 12)
    distances = relation_loss(other, teacher, mask)
    assert (distances > 0.01).all()
    short = relation_loss(other[1:2, :3], teacher[1:2, :3], torch.ones(1, 3))
    torch.testing.assert_close(distances[1:2], short)
    # By hand: the divergence of the softmaxes of 8 times the cosines.
    row = []
    for states in (other[0], teacher[0]):
        cosines = torch.nn.functional.cosine_similarity(states[:, None], states[None], dim=2)
        row.append((8 * cosines).softmax(1))
    expected = (row[1] * (row[1] / row[0]).log()).sum(1).mean()
    torch.testing.assert_close(distances[0], expected)


@pytest.fixture
def encoders(reviews: StageRunner, tmp_path: Path) -> FitConfig:
    """Return the fit of a Transformer whose teacher is a wider one."""
    wide = reviews.spec(tmp_path / "wide", "transformer", {"width": 24}, epochs=2)
    save_torch(tmp_path / "teacher", wide, fit(wide).weights.read_bytes(), "0" * 64, ["train"])
    spec = reviews.spec(tmp_path / "alone", "transformer", {"layers": 1}, epochs=3)
    return replace(spec, teacher=tmp_path / "teacher", temperature=2.0, teacher_weight=0.5)


def test_a_student_learns_the_relations_between_the_states_of_its_teacher(
    encoders: FitConfig, tmp_path: Path
) -> None:
    spec = encoders
    taught = replace(spec, state=tmp_path / "taught", hidden_weight=3.0)
    assert spec.teacher
    encoder = load_encoder(spec.tokens, spec.task)
    architecture = base.models(spec.task).architectures["transformer"]
    rows = EncodedRows(spec.tokens, "validation", encoder).batch(range(20))
    ids, mask = (torch.from_numpy(rows[name]) for name in ("ids", "mask"))
    teacher: Any = load_module(spec.teacher)
    distances = []
    for each in (spec, taught):
        student = architecture.build(architecture.Config(**each.config), encoder).eval()
        student.load_state_dict(load_file(fit(each).weights))
        with torch.no_grad():
            pair = (student.states(ids, mask), teacher.states(ids, mask))
            distances.append(float(relation_loss(*pair, mask).mean()))
    assert distances[1] < 0.7 * distances[0]


def test_shares_of_a_batch_teach_the_same_relations(encoders: FitConfig, tmp_path: Path) -> None:
    """Micro-batches are padded apart."""
    config = {**encoders.config, "dropout": 0.0}
    whole = replace(encoders, config=config, hidden_weight=1.0, state=tmp_path / "whole")
    little = whole.params.model_copy(update={"micro_batch_tokens": 64})
    parts = replace(whole, params=little, state=tmp_path / "parts")
    for one, other in zip(fit(whole).curve, fit(parts).curve, strict=True):
        assert other["train_loss"] == pytest.approx(one["train_loss"], rel=1e-3)
