"""Rows laid end to end learn what padded rows learn, and compute nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from stage_runner import TINY, StageRunner

from components.core.errors import InputError
from components.models.packing import PackedLayout, mean
from components.tasks import base
from components.tasks.shared.loss.classification.params import LossParams
from components.training.batches import EncodedRows, load_encoder, plan, within
from components.training.loop import fit
from components.training.micro_batches import MemoryShort, MicroBatches
from components.training.params import FitParams
from components.training.throughput import Throughput
from components.training.train_step import TrainStep

PLAIN = {
    "workers": 1,
    "optimizer": "sgd",
    "momentum": 0.0,
    "learning_rate": 1.0,
    "weight_decay": 0.0,
    "clip_norm": 1e9,
    "precision": "fp32",
}


def train_step(
    reviews: StageRunner, architecture: str = "transformer", **knobs: object
) -> tuple[TrainStep, EncodedRows]:
    encoder = load_encoder(reviews.root / "tokens", reviews.task)
    torch.manual_seed(3)
    kind = base.models(reviews.task).architectures[architecture]
    module = kind.build(kind.Config.model_validate({**TINY[architecture], "dropout": 0.0}), encoder)
    loss_params = LossParams(class_weights=knobs.pop("class_weights", "none"))  # type: ignore[arg-type]
    learning = base.learning(reviews.task)
    step = TrainStep(
        module, learning, FitParams.model_validate(PLAIN | knobs), loss_params=loss_params
    )
    rows = EncodedRows(reviews.root / "tokens", "train", encoder)
    rows.weights = learning.row_weights(rows.target, encoder.targets, loss_params)
    return step, rows


def gradients(one: TrainStep) -> dict[str, torch.Tensor]:
    return {name: p.grad.clone() for name, p in one.module.named_parameters() if p.grad is not None}


def test_packed_rows_give_the_loss_and_the_gradients_of_padded_ones(reviews: StageRunner) -> None:
    seen = []
    for packed in (False, True):
        one, rows = train_step(reviews)
        batch = plan(rows.lengths, 32, 0, 0)[0]
        seen.append((one.step([one.put(rows.batch(batch, packed))], 32, 0.0), gradients(one)))
    (padded_loss, padded), (packed_loss, packed_grads) = seen
    assert packed_loss == pytest.approx(padded_loss, abs=1e-5)
    assert padded.keys() == packed_grads.keys()
    for name, gradient in padded.items():
        torch.testing.assert_close(packed_grads[name], gradient, atol=1e-4, rtol=1e-4)
    assert (
        max(float(each.abs().max()) for each in padded.values()) > 1e-2
    )  # or the tolerance would hold for anything


def test_no_row_sees_its_neighbours(reviews: StageRunner) -> None:
    one, rows = train_step(reviews)
    batch = rows.batch([4, 9, 17], packed=True)
    changed = dict(batch)
    changed["ids"] = np.where(
        np.arange(len(batch["ids"])) < batch["lengths"][0], 5, batch["ids"]
    )  # another first row
    before, after = (
        one.module(torch.from_numpy(each["ids"]), lengths=torch.from_numpy(each["lengths"]))
        for each in (batch, changed)
    )
    torch.testing.assert_close(before[1:], after[1:])
    assert not torch.allclose(before[0], after[0])


def test_packing_computes_useful_tokens_only(reviews: StageRunner) -> None:
    _, rows = train_step(reviews)
    shares = {}
    for packed in (False, True):
        meter = Throughput(torch.device("cpu"))
        for batch in plan(rows.lengths, 32, 0, 0):
            meter.count([rows.batch(batch, packed)], int(rows.lengths[batch].sum()))
        shares[packed] = meter.read()["useful_share"]
    assert shares[True] == 1.0
    assert shares[False] < 1.0


def test_a_layout_knows_rows_and_places() -> None:
    layout = PackedLayout(torch.tensor([2, 2, 3, 1]))
    assert layout.row.tolist() == [0, 0, 1, 1, 2, 2, 2, 3]
    assert layout.position.tolist() == [0, 1, 0, 1, 0, 1, 2, 0]
    x = torch.arange(8.0)[:, None]
    assert mean(x, layout).flatten().tolist() == [0.5, 2.5, 5.0, 7.0]
    assert layout.runs == [(0, 2, 2), (4, 1, 3), (7, 1, 1)]


@pytest.mark.parametrize("weights", ["none", "balanced"])
def test_accumulated_parts_equal_the_large_batch(reviews: StageRunner, weights: str) -> None:
    """MicroBatches of unlike size and weight: a mean of their means would differ."""
    seen = []
    for tokens in (100_000, 90):
        one, rows = train_step(reviews, class_weights=weights)
        batch = np.flatnonzero(np.arange(len(rows)) % 3 == 0)[:31]
        parts = list(within(batch, rows.lengths, tokens))
        seen.append(
            (
                len(parts),
                one.step([one.put(rows.batch(part, True)) for part in parts], len(batch), 0.1),
                gradients(one),
            )
        )
    (once, loss, grads), (often, other_loss, others) = seen
    assert once == 1 < 3 < often
    assert other_loss == pytest.approx(loss, abs=1e-6)
    for name, gradient in grads.items():
        torch.testing.assert_close(others[name], gradient, atol=1e-6, rtol=1e-5)


def test_parts_keep_to_their_tokens_and_lose_no_row() -> None:
    lengths = np.array([5, 3, 9, 1, 1, 20, 2])
    parts = [part.tolist() for part in within(np.arange(7), lengths, 10)]
    assert parts == [[0, 1], [2, 3], [4], [5], [6]]
    assert [part.tolist() for part in within(np.arange(7), lengths, None)] == [
        [0, 1, 2, 3, 4, 5, 6]
    ]


def test_a_budget_of_tokens_ends_a_batch() -> None:
    lengths = np.random.default_rng(0).integers(1, 100, 500)
    batches = plan(lengths, 64, 1, 0, tokens=400)
    assert sorted(np.concatenate(batches).tolist()) == list(range(500))
    assert all(lengths[batch].sum() <= 400 for batch in batches)
    assert max(len(batch) for batch in batches) <= 64


def test_balanced_weights_give_each_class_the_same_say() -> None:
    target = np.array([0] * 30 + [1] * 10)
    targets = {"classes": ["a", "b", "c"]}
    learning = base.learning("text_classification")
    weights = learning.row_weights(target, targets, LossParams(class_weights="balanced"))
    assert weights is not None
    assert weights[:30].sum() == pytest.approx(weights[30:].sum())
    assert weights.mean() == pytest.approx(1)
    assert learning.row_weights(target, targets, None) is None


# -- memory
def short(failures: Iterator[bool]) -> float:
    if next(failures):
        raise torch.OutOfMemoryError("CUDA out of memory")
    return 1.0


def test_out_of_memory_halves_the_parts_and_says_so(tmp_path: Path) -> None:
    said: list[str] = []
    lengths, seen = np.full(8, 10), []
    failures = iter([True, True, False, False])
    parts = MicroBatches(tmp_path, 80, said.append)
    assert (
        parts.run(
            np.arange(8),
            lengths,
            lambda given: seen.append([len(part) for part in given]) or short(failures),
        )
        == 1.0
    )
    assert seen == [[8], [4, 4], [2, 2, 2, 2]]
    assert said == [
        "out of memory: going on with at most 40 tokens at once, the rest accumulated; the steps stay the same",
        "out of memory: going on with at most 20 tokens at once, the rest accumulated; the steps stay the same",
    ]
    assert MicroBatches(tmp_path, 80, said.append).tokens == 20  # a fit that begins anew knows


def test_it_halves_what_was_tried_and_not_what_was_allowed(tmp_path: Path) -> None:
    """Each try costs several workers a new start, and they have few."""
    seen: list[list[int]] = []
    failures = iter([True, False])
    parts = MicroBatches(tmp_path, 10_000, lambda _: None)
    parts.run(
        np.arange(8),
        np.full(8, 10),
        lambda given: seen.append([len(part) for part in given]) or short(failures),
    )
    assert seen == [[8], [4, 4]]
    assert parts.tokens == 40


def test_a_row_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not hold one row of 30 tokens") as caught:
        MicroBatches(tmp_path, 40, lambda _: None).run(
            np.arange(2), np.array([30, 20]), lambda _: short(iter([True] * 3)) if True else 0.0
        )
    assert caught.value.where == "train.micro_batch_tokens"


def test_one_of_several_workers_does_not_try_again_by_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    with pytest.raises(MemoryShort, match="going on with 40"):
        MicroBatches(tmp_path, 80, lambda _: None).run(
            np.arange(8), np.full(8, 10), lambda _: short(iter([True]))
        )
    assert MicroBatches(tmp_path, 80, lambda _: None).tokens == 40


def test_other_errors_are_not_taken_for_a_lack_of_memory(tmp_path: Path) -> None:
    def broken(_: object) -> float:
        raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes"):
        MicroBatches(tmp_path, 80, lambda _: None).run(np.arange(2), np.array([1, 1]), broken)


def test_a_student_that_packs_learns_from_a_teacher_that_does_not(
    reviews: StageRunner, network: Path, tmp_path: Path
) -> None:
    spec = replace(
        reviews.spec(tmp_path, "transformer", epochs=2),
        teacher=network,
        teacher_weight=0.7,
        temperature=2.0,
    )
    assert fit(spec).curve[1]["train_loss"] < fit(spec).curve[0]["train_loss"]
