"""Two workers take the step that one would take on the whole batch."""

from __future__ import annotations

from datetime import timedelta
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from stage_runner import StageRunner

from components.tasks.shared.loss.classification.loss import ClassificationLearning
from components.training.fit_config import FitConfig, FitResult
from components.training.loop import fit

KNOBS: dict[str, Any] = {
    "epochs": 2,
    "batch_size": 48,
    "optimizer": "sgd",
    "learning_rate": 0.05,
    "label_smoothing": 0.05,
    "warmup_share": 0.2,
}


def work(rank: int, spec: FitConfig, meeting: str) -> FitResult:
    """One of two workers."""
    torch.distributed.init_process_group(
        "gloo",
        init_method=f"file://{meeting}",
        rank=rank,
        world_size=2,
        timeout=timedelta(seconds=100),
    )
    try:
        return fit(spec)
    finally:
        torch.distributed.destroy_process_group()


@pytest.mark.timeout(150)
def test_two_workers_equal_one_on_the_same_batches(
    reviews: StageRunner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Shares of a batch are padded apart and may differ in size, the loss is a mean over all of it, gradients are clipped after they are added up."""
    no_dropout = {"dropout": 0.0}
    alone = fit(reviews.spec(tmp_path / "one", config=no_dropout, **KNOBS))
    spec = reviews.spec(tmp_path / "two", config=no_dropout, **KNOBS, workers=2)
    other = get_context("spawn").Process(target=work, args=(1, spec, str(tmp_path / "meeting")))
    other.start()
    rows: list[int] = []
    right = ClassificationLearning.loss
    monkeypatch.setattr(
        ClassificationLearning,
        "loss",
        lambda self, module, batch, loss_params: (
            rows.append(len(batch["target"])) or right(self, module, batch, loss_params)
        ),
    )
    together = work(0, spec, str(tmp_path / "meeting"))
    other.join(30)
    assert other.exitcode == 0
    assert together.world == 2
    assert sum(rows) == pytest.approx(
        KNOBS["epochs"] * len(reviews.rows("tokens", "train")) / 2, abs=len(rows)
    )  # and each did half of the work
    for one, two in zip(alone.curve, together.curve, strict=True):
        assert two == pytest.approx(one | {"workers": 2.0}, abs=1e-5)
    first, second = load_file(alone.weights), load_file(together.weights)
    for name, tensor in first.items():
        torch.testing.assert_close(second[name], tensor, atol=1e-5, rtol=0)
    start = fit(
        reviews.spec(tmp_path / "start", config=no_dropout, **{**KNOBS, "learning_rate": 1e-9})
    )
    assert (
        max(
            float((load_file(start.weights)[name] - tensor).abs().max())
            for name, tensor in first.items()
        )
        > 1e-2
    )  # far more than the tolerance was learned
