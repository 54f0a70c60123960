"""Single weights become 0, and stay 0 while the others learn."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from stage_runner import StageRunner
from torch import nn

from components.core.errors import InputError
from components.inference.predictor import WEIGHTS, load_module
from components.stages.compress.zero_weights import (
    prunable_weights,
    two_of_four,
    without_smallest,
    zero_share,
)
from components.tasks import base
from components.training.loop import fit
from components.training.params import FitParams
from components.training.train_step import TrainStep


def test_weights_count_by_their_share_of_their_tensor() -> None:
    weights = {
        "small": torch.tensor([[0.1, -0.2], [0.3, -0.4]]),
        "large": torch.tensor([[5.0, -6.0], [0.0, 8.0]]),
    }
    pruned = without_smallest(weights, 0.5)
    assert pruned["small"].tolist() == [[0, 0], [pytest.approx(0.3), pytest.approx(-0.4)]]
    assert pruned["large"].tolist() == [[0, -6], [0, 8]]
    assert zero_share(pruned) == 0.5
    # The largest weight of each tensor stays.
    assert zero_share(without_smallest(weights, 0.75)) == 0.75
    # The zeros of an earlier round count.
    assert zero_share(without_smallest(pruned, 0.75)) == 0.75
    assert without_smallest(weights, 0.0)["large"] is weights["large"]


def test_two_of_four_inputs_stay_in_matrices_and_filters() -> None:
    matrix = torch.tensor([[1.0, -4.0, 2.0, 3.0, 0.0, 9.0, 8.0, 7.0, 0.5]])
    filters = torch.arange(1.0, 17.0).reshape(1, 4, 2, 2)
    pruned = two_of_four({"matrix": matrix, "filters": filters, "narrow": matrix[:, :3]})
    # The ninth input fills no group.
    assert pruned["matrix"].tolist() == [[0, -4, 0, 3, 0, 9, 8, 0, 0.5]]
    expected = filters.clone()
    expected[:, :2] = 0
    torch.testing.assert_close(pruned["filters"], expected)
    torch.testing.assert_close(pruned["narrow"], matrix[:, :3])
    assert matrix[0, 0] == 1


@pytest.mark.parametrize("optimizer", ["adamw", "muon", "sgd"])
def test_zeros_stay_while_the_other_weights_learn(
    reviews: StageRunner, network: Path, tmp_path: Path, optimizer: str
) -> None:
    weights = load_file(network / WEIGHTS)
    names = prunable_weights(load_module(network))
    weights |= without_smallest({name: weights[name] for name in names}, 0.5)
    save_file(weights, tmp_path / "initial")
    changes = {"optimizer": optimizer, "ema": 0.5, "l1": 1e-4, "learning_rate": 0.01}
    spec = reviews.spec(tmp_path / "fit", epochs=1, **changes)
    spec = replace(spec, initial=tmp_path / "initial", keep_zeros=True)
    fitted = load_file(fit(spec).weights)
    for name in names:
        is_zero = weights[name] == 0
        assert (fitted[name][is_zero] == 0).all()
        assert (fitted[name][~is_zero] != weights[name][~is_zero]).any()
    assert zero_share({name: fitted[name] for name in names}) == pytest.approx(0.5, abs=1e-3)


def test_zeros_are_refused_where_weights_are_frozen() -> None:
    network = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))
    network[0].requires_grad_(False)
    step = TrainStep(network, base.learning("text_classification"), FitParams())
    with pytest.raises(InputError, match=r"2 weights do not learn, such as 0\.bias"):
        step.keep_zeros()
