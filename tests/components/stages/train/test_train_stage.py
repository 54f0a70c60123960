"""train: the baselines, the network, and what it learns from text alone before."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from stage_runner import TINY, StageRunner, sentences

from components.stages.train import stage as train
from components.training.loop import fit


def line(root: Path, epochs: int, spare: int) -> StageRunner:
    """The stages before train over rows of which some have no label."""
    rows = [
        *sentences(200),
        *({**row, "label": None} for row in sentences(200 + spare, seed=1)[200:]),
    ]
    told: dict[str, Any] = {
        "architecture": "transformer",
        "workers": 1,
        "epochs": 1,
        "batch_size": 32,
        "pretrain": {"epochs": epochs},
        "nets": {"transformer": TINY["transformer"]},
    }
    return StageRunner.make(
        root,
        rows,
        clean={"unlabelled": "keep"},
        tokenize={"vocabulary_size": 600, "max_length": 48},
        train=told,
    ).all()


@pytest.mark.parametrize(
    ("spare", "said"),
    [
        (40, "40 unlabelled rows"),
        (0, "no unlabelled rows: the source has none, or clean.unlabelled is not keep"),
    ],
)
def test_pretraining_comes_first_and_the_fit_starts_from_it(
    spare: int, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    specs: list[Any] = []
    monkeypatch.setattr(
        train, "fit_distributed", lambda spec, journal: specs.append(spec) or fit(spec, journal)
    )
    torch.set_num_threads(1)
    runner = line(tmp_path, 2, spare)
    job = runner.job("train", ["clean", "tokens"], ["trained", "curve", "report"])
    train.run(job)
    first, second = specs
    assert (first.mask_share, first.params.epochs, first.state.name) == (0.15, 2, "pretrain")
    assert (second.mask_share, second.params.epochs, second.initial) == (
        0.0,
        1,
        first.state / "best.safetensors",
    )
    assert not any(name.startswith("head.") for name in load_file(second.initial))
    events = [
        json.loads(text) for text in job.journal.path.read_text(encoding="utf-8").splitlines()
    ]
    assert any(said in event.get("text", "") for event in events)
    curves = [event["values"] for event in events if event["kind"] == "metrics"]
    assert [
        ("pretrain_validation_loss" in values, "validation_loss" in values) for values in curves
    ] == [(True, False), (True, False), (False, True)]
    report = json.loads((tmp_path / "train.json").read_text(encoding="utf-8"))
    assert report["pretrain_validation_loss"] == min(
        values["pretrain_validation_loss"] for values in curves[:2]
    )
    assert sorted(path.name for path in (tmp_path / "trained").iterdir()) == [
        "classical",
        "network",
        "trivial",
    ]


class SawRowsError(Exception):
    """The columns that a baseline was fitted to."""


@pytest.mark.parametrize("named", [True, False])
def test_baselines_get_the_groups_that_the_source_names(
    named: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [{**row, "group": f"user {i // 2}"} for i, row in enumerate(sentences(120))]
    if not named:
        rows = sentences(120)
    runner = StageRunner.make(tmp_path, rows, tokenize={"vocabulary_size": 300}).all()

    def fit(rows: Any, *_: Any, **__: Any) -> None:
        raise SawRowsError(rows.column_names)

    baselines = SimpleNamespace(baselines={"classical": SimpleNamespace(fit=fit)})
    monkeypatch.setattr(train.base, "baselines", lambda task: baselines)
    job = runner.job("train", ["clean", "tokens"], ["trained", "curve", "report"])
    with pytest.raises(SawRowsError) as saw:
        train.run(job)
    assert ("group" in saw.value.args[0]) == named
