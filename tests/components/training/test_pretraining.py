"""Learning from text alone: what is hidden, what it gains, and what the fit takes over from it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest
import torch
from safetensors.torch import load_file
from stage_runner import StageRunner

from components.core.errors import InputError
from components.core.files import sha256
from components.core.tables import read_manifest, read_table, write_table
from components.models.masked_lm import hide
from components.stages.train.params import check_pretrain
from components.tasks import base
from components.training.batches import EncodedRows, load_encoder
from components.training.loop import fit, make_train_step

pytestmark = pytest.mark.usefixtures("one_thread")

ARCHITECTURES = ["transformer", "pretrained"]


@pytest.fixture(params=ARCHITECTURES)
def line(request: pytest.FixtureRequest) -> tuple[StageRunner, str]:
    """Tokens that the architecture takes."""
    return request.getfixturevalue(
        "reviews" if request.param == "transformer" else "borrowed"
    ), request.param


def test_what_is_hidden() -> None:
    ids = torch.randint(5, 1000, (400, 50), generator=torch.Generator().manual_seed(0))
    ids[:, 0], ids[:, -10:] = 2, 0
    mask = (ids > 0).float()
    batch = hide(
        {"ids": ids, "mask": mask},
        0.15,
        4,
        torch.tensor([0, 2]),
        1000,
        torch.Generator().manual_seed(1),
    )
    chosen = batch["chosen"]
    assert torch.equal(batch["hidden"], ids)
    assert torch.equal(batch["ids"][~chosen], ids[~chosen])
    assert not chosen[:, 0].any() and not chosen[:, -10:].any()
    assert chosen.float().sum() / (400 * 39) == pytest.approx(0.15, abs=0.01)
    shown, were = batch["ids"][chosen], ids[chosen]
    assert (shown == 4).float().mean() == pytest.approx(0.8, abs=0.03)
    assert (shown == were).float().mean() == pytest.approx(0.1, abs=0.03)
    again = hide(
        {"ids": ids, "mask": mask},
        0.15,
        4,
        torch.tensor([0, 2]),
        1000,
        torch.Generator().manual_seed(2),
    )
    assert not torch.equal(again["chosen"], chosen)
    alone = hide({"ids": ids[:1, :1]}, 0.15, 4, torch.tensor([2]), 1000, torch.Generator())
    assert alone["chosen"].all()  # a loss over nothing is none


def test_padded_and_packed_rows_have_the_same_loss(reviews: StageRunner, tmp_path: Path) -> None:
    encoder = load_encoder(reviews.root / "tokens", reviews.task)
    train_step = make_train_step(
        replace(reviews.spec(tmp_path, "transformer", {"dropout": 0.0}), mask_share=0.3), encoder
    )
    rows = EncodedRows(reviews.root / "tokens", "train", encoder)
    padded, packed = (
        {name: torch.from_numpy(value) for name, value in rows.batch([3, 1, 4], form).items()}
        for form in (False, True)
    )
    hidden = hide(
        padded, 0.3, 2, torch.tensor([0]), encoder.vocabulary, torch.Generator().manual_seed(0)
    )  # type: ignore[attr-defined]
    there = padded["mask"] > 0
    same = {**packed, **{name: hidden[name][there] for name in ("ids", "hidden", "chosen")}}
    one, two = (
        train_step.learning.loss(train_step.module, batch, None) for batch in (hidden, same)
    )
    assert torch.allclose(one.total, two.total, rtol=1e-5)
    assert int(one.count) == int(two.count) == int(hidden["chosen"].sum())


def test_it_learns_to_guess_and_the_fit_starts_there(
    line: tuple[StageRunner, str], tmp_path: Path
) -> None:
    runner, architecture = line
    before = replace(
        runner.spec(tmp_path / "pretrain", architecture, epochs=3, patience=3, checkpoint_steps=50),
        mask_share=0.15,
    )
    fitted = fit(before)
    losses = [row["validation_loss"] for row in fitted.curve]
    assert losses[-1] < losses[0] - 0.05
    assert fitted.best["validation_loss"] == min(losses)
    train_step = make_train_step(
        replace(runner.spec(tmp_path / "fit", architecture), initial=fitted.weights),
        load_encoder(runner.root / "tokens", runner.task),
    )
    state, kept = train_step.module.state_dict(), load_file(fitted.weights)
    assert {name for name in state if name not in kept} == {"head.weight", "head.bias"}
    assert all(torch.equal(state[name], value) for name, value in kept.items())


def test_a_killed_pretraining_ends_as_the_undisturbed_one(
    reviews: StageRunner, tmp_path: Path
) -> None:
    class Killed(BaseException):
        pass

    def kill(row: Any) -> None:
        if row["epoch"] == 1:
            raise Killed

    def spec(name: str) -> Any:
        return replace(
            reviews.spec(tmp_path / name, "transformer", epochs=2, patience=2), mask_share=0.15
        )

    undisturbed = fit(spec("undisturbed"))
    with pytest.raises(Killed):
        fit(spec("killed"), report=kill)
    resumed = fit(spec("killed"))
    assert sha256(resumed.weights) == sha256(undisturbed.weights)
    assert resumed.curve == undisturbed.curve


def test_rows_without_labels_are_read_too_and_only_here(
    reviews: StageRunner, tmp_path: Path
) -> None:
    tokens = reviews.root / "tokens"
    facts = {
        name: value
        for name, value in read_manifest(tokens).items()
        if name not in ("rows", "parts", "schema", "shards")
    }
    parts = {split: read_table(tokens, split) for split in ("train", "validation", "test")}
    nameless = parts["test"].set_column(
        parts["test"].column_names.index("target"),
        "target",
        pa.array([-1] * parts["test"].num_rows, pa.int64()),
    )
    write_table(tmp_path / "tokens", {**parts, "unlabelled": nameless}, facts)
    (tmp_path / "tokens" / "encoder").symlink_to(tokens / "encoder")
    plain = replace(reviews.spec(tmp_path / "fit", "transformer"), tokens=tmp_path / "tokens")
    masked = replace(plain, mask_share=0.15)
    assert (
        plain.splits,
        masked.splits,
        replace(masked, tokens=tokens).splits,
    ) == (["train"], ["train", "unlabelled"], ["train"])
    rows = EncodedRows(tmp_path / "tokens", masked.splits, load_encoder(tokens, reviews.task))
    assert len(rows) == parts["train"].num_rows + nameless.num_rows
    assert fit(masked).curve[0]["step"] == -(-len(rows) // 32)


def test_weights_of_another_net_are_refused(reviews: StageRunner, tmp_path: Path) -> None:
    fitted = fit(replace(reviews.spec(tmp_path / "pretrain", "transformer"), mask_share=0.15))
    with pytest.raises(InputError, match="weights of another network"):
        fit(replace(reviews.spec(tmp_path / "fit", "textcnn"), initial=fitted.weights))


def test_an_architecture_that_cannot_is_refused_with_the_params() -> None:
    architectures = base.models("text_classification").architectures
    (said,) = check_pretrain(
        SimpleNamespace(architecture="textcnn", pretrain=SimpleNamespace(epochs=2)), architectures
    )
    assert said.startswith("train.pretrain.epochs: 2: architecture textcnn has no state per token")
    assert said.endswith("those that have: transformer, pretrained")
    assert (
        check_pretrain(
            SimpleNamespace(architecture="textcnn", pretrain=SimpleNamespace(epochs=0)),
            architectures,
        )
        == []
    )
    assert (
        check_pretrain(
            SimpleNamespace(architecture="transformer", pretrain=SimpleNamespace(epochs=2)),
            architectures,
        )
        == []
    )
    pictures = base.models("image_classification").architectures
    assert (
        "none of this task's"
        in check_pretrain(
            SimpleNamespace(architecture="convnet", pretrain=SimpleNamespace(epochs=1)), pictures
        )[0]
    )
