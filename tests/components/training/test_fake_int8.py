"""Products, filters and tables are rounded as int8 rounds them, and gradients pass."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from stage_runner import StageRunner
from torch import nn

from components.inference.predictor import WEIGHTS
from components.training.fake_int8 import FakeInt8
from components.training.loop import fit


def steps_of(values: torch.Tensor, scale: float) -> torch.Tensor:
    """Values rounded to multiples of a scale."""
    return (values / scale).round() * scale


def test_a_product_is_that_of_rounded_inputs_and_weights() -> None:
    torch.manual_seed(0)
    layer = nn.Linear(5, 3)
    inputs = torch.randn(4, 5)
    with FakeInt8():
        rounded = layer(inputs)
    scale = float(inputs.max() - inputs.min()) / 255
    scales = layer.weight.detach().abs().amax(1, keepdim=True) / 127
    weights = (layer.weight.detach() / scales).round() * scales
    expected = nn.functional.linear(steps_of(inputs, scale), weights, layer.bias.detach())
    # An input at the end of the range may be one step off.
    torch.testing.assert_close(rounded, expected, atol=2 * scale, rtol=0)
    assert not torch.equal(rounded, layer(inputs))
    torch.testing.assert_close(layer(inputs), rounded, atol=0.05, rtol=0)


@pytest.mark.parametrize(
    ("layer", "inputs"),
    [
        (nn.Linear(5, 3), torch.rand(4, 5)),
        (nn.Conv1d(2, 3, 2), torch.rand(4, 2, 6)),
        (nn.Conv2d(1, 3, 3), torch.rand(4, 1, 6, 6)),
        (nn.Embedding(7, 5), torch.arange(7)),
    ],
)
def test_rounding_lets_gradients_pass(layer: nn.Module, inputs: torch.Tensor) -> None:
    with FakeInt8():
        rounded = layer(inputs)
    assert not torch.equal(rounded, layer(inputs))
    torch.testing.assert_close(rounded, layer(inputs), atol=0.05, rtol=0)
    rounded.square().sum().backward()
    for parameter in layer.parameters():
        assert parameter.grad is not None
        assert parameter.grad.isfinite().all() and parameter.grad.any()


def test_tensors_of_zeros_stay_zeros() -> None:
    layer = nn.Linear(4, 2, bias=False)
    nn.init.zeros_(layer.weight)
    with FakeInt8():
        assert layer(torch.zeros(3, 4)).eq(0).all()
        assert layer(torch.ones(3, 4)).eq(0).all()


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_fit_with_rounding_gives_weights_of_the_same_names(
    reviews: StageRunner, network: Path, tmp_path: Path, precision: str
) -> None:
    spec = replace(
        reviews.spec(tmp_path / "plain", epochs=1, precision=precision),
        initial=network / WEIGHTS,
    )
    plain = load_file(fit(spec).weights)
    rounded = load_file(fit(replace(spec, state=tmp_path / "qat", fake_int8=True)).weights)
    assert plain.keys() == rounded.keys()
    assert any(not torch.equal(plain[name], rounded[name]) for name in plain)
    assert all(value.isfinite().all() for value in rounded.values())
