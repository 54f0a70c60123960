"""What is counted, in which rows, and what it weighs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from stage_runner import StageRunner

from components.inference.predictor import onnx_scorer, torch_scorer
from components.models.counted.config import CountedConfig
from components.models.counted.net import _GAIN, _NONE, Counted
from components.stages.compress.quantize import export, int8
from components.tasks import base
from components.training.batches import EncodedRows, load_encoder
from components.training.loop import fit, make_train_step

ROWS = [[5, 6, 7], [5, 6, 8], [5, 5, 5, 5]]


def counted(**config: int) -> Counted:
    module = Counted(CountedConfig(**{"n": 2, "ends": 0, "rows": 9, **config}), 20, 2)
    module.count(
        iter(
            [
                {
                    "ids": torch.tensor([each for row in rows for each in row]),
                    "lengths": torch.tensor([len(row) for row in rows]),
                }
                for rows in (ROWS[:2], ROWS[2:])
            ]
        )
    )
    return module


def key(module: Counted, *ids: int) -> int:
    """Of the n-gram that is the whole of the ids."""
    here = torch.arange(len(ids))
    return int(module.grams(torch.tensor(ids), here, here.flip(0))[-1, len(ids) - 1])


def test_the_table_holds_what_occurs_in_enough_rows_and_in_how_few() -> None:
    module = counted()
    expected = {
        key(module, 5): 3,
        key(module, 6): 2,
        key(module, 5, 6): 2,
    }  # four times 5 in one row is one row
    assert dict(zip(module.keys.tolist(), module.rarity.tolist(), strict=True)) == pytest.approx(
        {
            **{
                each: 1 + float(torch.tensor(4 / (1 + rows)).log())
                for each, rows in expected.items()
            },
            _NONE: 0.0,
        }
    )
    assert module.keys.tolist() == sorted(module.keys.tolist())


def test_the_most_frequent_are_kept_where_there_are_too_many() -> None:
    module = counted(rows=1)
    assert module.keys.tolist() == [key(module, 5)]


def test_a_row_is_the_n_grams_that_it_holds_each_once() -> None:
    module = counted()
    weights = torch.zeros(9, 2)
    weights[: (module.keys < _NONE).sum()] = torch.tensor([[1.0, 0.0], [10.0, 0.0], [100.0, 0.0]])
    module.wide.weight.data = weights
    for ids, held in (
        ([5, 6, 9], [5, 6]),
        ([5, 6, 5, 6, 5], [5, 6]),
        ([5, 9, 6], None),
        ([9, 9], []),
    ):
        keys = {key(module, each) for each in set(ids) - {9}} | (
            {key(module, *held)} if held else set()
        )
        values = [
            (float(module.rarity[place]), float(weights[place, 0]))
            for place, each in enumerate(module.keys.tolist())
            if each in keys
        ]
        length = sum(rarity**2 for rarity, _ in values) ** 0.5 or 1.0
        logits = module(torch.tensor([ids]), torch.ones(1, len(ids)))
        assert logits[0, 0].item() == pytest.approx(
            _GAIN * sum(rarity * weight for rarity, weight in values) / length, rel=1e-5
        )


def test_n_grams_near_either_end_count_apart() -> None:
    module = counted(ends=1)

    def keys(*ids: int) -> set[int]:
        place = torch.arange(len(ids))
        return set(module.grams(torch.tensor(ids), place, place.flip(0)).flatten().tolist()) - {
            _NONE
        }

    plain = {key(module, 5), key(module, 9), key(module, 5, 9), key(module, 9, 5)}
    assert plain == keys(9, 5, 9) & keys(5, 9, 5)
    near = keys(9, 5, 9) - plain
    assert len(near) == 3  # 9 first, 9 last, 5 9 last
    assert not near & keys(5, 9, 5, 5)  # there 9 is at neither end


def test_a_fit_counts_train_rows_alone(reviews: StageRunner, tmp_path: Path) -> None:
    encoder = load_encoder(reviews.root / "tokens", reviews.task)
    module = make_train_step(
        reviews.spec(tmp_path, "counted", {"min_documents": 1, "rows": 30_000}), encoder
    ).module
    assert isinstance(module, Counted)
    held = {}
    for split in ("train", "validation"):
        batch = EncodedRows(reviews.root / "tokens", split, encoder).batch(range(20))
        ids, mask = torch.from_numpy(batch["ids"]), torch.from_numpy(batch["mask"])
        place = torch.arange(ids.shape[1])
        keys = module.grams(ids, place, mask.sum(1, keepdim=True) - 1 - place)[mask > 0]
        held[split] = float(torch.isin(keys[keys < _NONE], module.keys).double().mean())
    assert held["train"] == 1.0
    assert held["validation"] < 0.9
    assert not module.keys.requires_grad and not module.rarity.requires_grad


def test_int8_answers_close_to_the_network(reviews: StageRunner, tmp_path: Path) -> None:
    spec = reviews.spec(tmp_path, "counted", epochs=4)
    weights = load_file(fit(spec).weights)
    encoder, kind = (
        load_encoder(spec.tokens, spec.task),
        base.models(spec.task).architectures["counted"],
    )
    module = kind.build(kind.Config.model_validate(dict(spec.config)), encoder).eval()
    module.load_state_dict(weights)
    rows = EncodedRows(spec.tokens, "train", encoder)
    graph = export(
        kind.graphs(module)["forward"],
        dict(rows.batch([int(rows.lengths.argmax()), int(rows.lengths.argmin())])),
    )
    small = int8(graph, rows, 64, 7)
    batch = {
        name: value
        for name, value in EncodedRows(spec.tokens, "test", encoder).batch(range(24)).items()
        if name != "target"
    }
    told, whole, prune_network = (
        score("forward", batch)["logits"]
        for score in (torch_scorer(module), onnx_scorer(graph), onnx_scorer(small))
    )
    np.testing.assert_allclose(whole, told, atol=1e-4)
    np.testing.assert_allclose(prune_network, told, atol=0.15 * np.ptp(told))
    assert np.ptp(told) > 1
    assert (
        len(graph) < sum(tensor.nbytes for tensor in weights.values()) + 250_000
    )  # its operations take the rest: no table is in it twice
    assert len(small) < len(graph)
