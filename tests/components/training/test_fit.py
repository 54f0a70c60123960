"""The loop: it learns, stops, refuses, and goes on as if nothing had happened."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from stage_runner import StageRunner

from components.core.errors import InputError
from components.core.files import sha256
from components.core.job import Journal
from components.tasks.shared.loss.classification.loss import ClassificationLearning
from components.training.checkpoints import Checkpoints
from components.training.fit_config import FitConfig
from components.training.loop import finished, fit

pytestmark = pytest.mark.usefixtures("one_thread")


class Killed(BaseException):
    """What no handler in the code catches."""


def newest(spec: FitConfig) -> list[Path]:
    return sorted((spec.state / "checkpoints").glob("step-*.pt"))


@pytest.mark.parametrize(
    ("line", "architecture"),
    [
        ("reviews", "ngrams"),
        ("reviews", "textcnn"),
        ("reviews", "counted"),
        ("reviews", "recurrent"),
        ("reviews", "transformer"),
        ("bars", "convnet"),
    ],
)
def test_it_learns_and_keeps_the_best_epoch(
    line: str, architecture: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    runner: StageRunner = request.getfixturevalue(line)
    spec = runner.spec(tmp_path, architecture, epochs=6, patience=6)
    fitted = fit(spec, Journal(tmp_path / "journal.jsonl"))
    assert fitted.curve[-1]["train_loss"] < fitted.curve[0]["train_loss"] * 0.8
    assert (
        fitted.best["validation_macro_f1"]
        == max(row["validation_macro_f1"] for row in fitted.curve)
        > 0.8
    )
    assert [row["epoch"] for row in fitted.curve] == [1, 2, 3, 4, 5, 6]
    assert fitted.parameters == sum(
        tensor.numel()
        for name, tensor in load_file(fitted.weights).items()
        if "running" not in name and "num_batches" not in name
    )
    events = [json.loads(line) for line in (tmp_path / "journal.jsonl").read_text().splitlines()]
    assert [event["values"]["epoch"] for event in events if event["kind"] == "metrics"] == [
        1,
        2,
        3,
        4,
        5,
        6,
    ]


def test_a_finished_fit_is_not_run_again(
    reviews: StageRunner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = reviews.spec(tmp_path)
    assert finished(spec) is None
    first = fit(spec)
    monkeypatch.setattr(ClassificationLearning, "loss", lambda *_: pytest.fail("trained again"))
    assert fit(spec) == first == finished(spec)


def test_it_stops_when_nothing_is_gained(reviews: StageRunner, tmp_path: Path) -> None:
    fitted = fit(reviews.spec(tmp_path, epochs=9, patience=2, learning_rate=1e-9))
    assert len(fitted.curve) == 3
    assert fitted.best["epoch"] == 1  # of equal ones the first


def test_a_loss_that_is_no_number_names_the_knob(
    reviews: StageRunner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = ClassificationLearning.loss

    def wrong(self: ClassificationLearning, module: Any, batch: Any, loss_params: Any) -> Any:
        loss = right(self, module, batch, loss_params)
        return type(loss)(loss.total * float("nan"), loss.count)

    monkeypatch.setattr(ClassificationLearning, "loss", wrong)
    with pytest.raises(
        InputError, match=r"the loss is nan, the norm of its gradient nan at step 0 \(epoch 1\)"
    ) as caught:
        fit(reviews.spec(tmp_path, learning_rate=0.25))
    assert caught.value.where == "train.learning_rate"
    assert "0.25" in caught.value.remedy
    assert finished(reviews.spec(tmp_path)) is None


def test_a_learning_rate_that_explodes_is_an_input_error(
    reviews: StageRunner, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=r"norm of its gradient (nan|inf) at step \d+"):
        fit(
            reviews.spec(
                tmp_path,
                "textcnn",
                optimizer="sgd",
                learning_rate=10.0,
                clip_norm=1e30,
                epochs=20,
                patience=20,
            )
        )


def test_more_workers_than_rows_are_refused_and_do_not_wait_for_each_other(
    reviews: StageRunner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from components.training import loop

    monkeypatch.setattr(loop, "world", lambda: 25)  # validation has 24 rows
    with pytest.raises(InputError, match="25 workers are too many for a split of 24") as caught:
        fit(reviews.spec(tmp_path))
    assert caught.value.where == "train.workers"


# -- kill and resume
KNOBS: dict[str, Any] = {"epochs": 3, "patience": 3, "checkpoint_steps": 2, "batch_size": 32}


def kill_after(saves: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Die right after a checkpoint was written."""
    right, left = Checkpoints.save, [saves]

    def save(self: Checkpoints, step: int, state: Mapping[str, Any]) -> None:
        right(self, step, state)
        self.flush()
        left[0] -= 1
        if left[0] == 0:
            raise Killed

    monkeypatch.setattr(Checkpoints, "save", save)


def interrupted(spec: FitConfig, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run a part of a fit."""

    def raise_out(row: Mapping[str, float]) -> None:
        if row["epoch"] == 2:
            raise Killed

    with monkeypatch.context() as patched, pytest.raises(Killed):
        if how == "report":
            fit(spec, report=raise_out)
        else:
            kill_after(
                {"first": 1, "middle": 3, "late": 5, "truncated": 4, "both": 3}[how], patched
            )
            fit(spec)
    broken = {"truncated": newest(spec)[-1:], "both": newest(spec)}.get(how, [])
    for path in broken:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize(
    ("line", "architecture"), [("reviews", "textcnn"), ("reviews", "counted"), ("bars", "convnet")]
)
def test_a_killed_fit_ends_as_the_undisturbed_one(
    line: str,
    architecture: str,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Dropout, AdamW's moments, running statistics, transforms on the fly, the sum of losses: all of it must come back."""
    runner: StageRunner = request.getfixturevalue(line)
    undisturbed = fit(runner.spec(tmp_path / "undisturbed", architecture, **KNOBS))
    for how in ("report", "first", "middle", "late", "truncated", "both"):
        spec = runner.spec(tmp_path / how, architecture, **KNOBS)
        interrupted(spec, how, monkeypatch)
        assert finished(spec) is None
        resumed = fit(spec)
        assert sha256(resumed.weights) == sha256(undisturbed.weights), how
        assert resumed.curve == undisturbed.curve, how


def test_it_goes_on_and_does_not_begin_anew(
    reviews: StageRunner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = reviews.spec(tmp_path, **KNOBS)
    interrupted(spec, "middle", monkeypatch)
    steps: list[int] = []
    right = ClassificationLearning.loss
    monkeypatch.setattr(
        ClassificationLearning, "loss", lambda *args: steps.append(1) or right(*args)
    )
    fitted = fit(spec)
    assert len(steps) == fitted.curve[-1]["step"] - 6


def test_every_epoch_is_told_though_the_listener_died_before_it_wrote_one_down(
    reviews: StageRunner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = reviews.spec(tmp_path, **KNOBS)
    interrupted(spec, "report", monkeypatch)  # epoch 2 is in the checkpoint, but nobody heard of it
    heard: list[float] = []
    fitted = fit(spec, report=lambda row: heard.append(row["epoch"]))
    assert heard == [1, 2, 3]
    again: list[Mapping[str, float]] = []
    fit(spec, report=again.append)
    assert again == fitted.curve


def test_a_broken_checkpoint_is_named_and_two_are_kept(tmp_path: Path) -> None:
    said: list[str] = []
    checkpoints = Checkpoints(tmp_path, said.append)
    assert checkpoints.newest() is None
    for step in (9, 10, 100):
        checkpoints.save(step, {"step": step})
    checkpoints.flush()
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "step-000000010.pt",
        "step-000000100.pt",
    ]
    assert checkpoints.newest() == {"step": 100}
    (tmp_path / "step-000000100.pt").write_bytes(b"")
    assert checkpoints.newest() == {"step": 10}
    assert len(said) == 1
    assert said[0].startswith("step-000000100.pt cannot be read")


def test_a_checkpoint_is_never_unpickled(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "ran",))

    said: list[str] = []
    torch.save({"evil": Evil()}, tmp_path / "step-000000001.pt")
    assert Checkpoints(tmp_path, said.append).newest() is None
    assert not (tmp_path / "ran").exists()
    assert said
