"""Which units stay."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from components.models.base import PrunableDim
from components.stages.compress.prune import (
    dropped_losses,
    gradient_scores,
    movement_scores,
    score,
    select,
)
from components.tasks import base


@pytest.mark.parametrize(
    ("share", "minimum", "stay"),
    [
        (0.5, 1, [0, 3]),
        (0.1, 1, [0, 1, 2, 3]),
        (0.99, 1, [3]),
        (0.99, 2, [0, 3]),
        (0.5, 9, [0, 1, 2, 3]),
    ],
)
def test_the_strongest_stay_in_their_order(share: float, minimum: int, stay: list[int]) -> None:
    assert (
        select(PrunableDim("d", 4, [], minimum), torch.tensor([3.0, 1.0, 2.0, 4.0]), share).tolist()
        == stay
    )


@pytest.mark.parametrize(
    ("size", "width", "share", "stay"),
    [
        (64, 1, 0.3, 48),  # 45 without a multiple
        (32, 1, 0.3, 16),  # 22 without a multiple
        (64, 1, 0.99, 16),
        (64, 1, 0.05, 64),
        (20, 1, 0.0, 20),  # nothing is to be cut
        (12, 1, 0.5, 6),  # no more than one multiple: any number
        (12, 32, 0.5, 6),  # heads have 32 elements each
        (12, 8, 0.5, 6),
        (12, 8, 0.4, 8),  # 7, with 8 elements each
    ],
)
def test_elements_that_stay_are_a_multiple(size: int, width: int, share: float, stay: int) -> None:
    dim = PrunableDim("d", size, [("a.weight", 0, 0, width), ("b.weight", 1, 0, 4 * width)])
    assert len(select(dim, torch.arange(float(size)), share, multiple=16)) == stay


def test_a_score_is_the_norm_over_all_places_but_running_statistics() -> None:
    state = {
        "a.weight": torch.tensor([[9.0, 9.0], [3.0, 4.0], [0.0, 0.0], [1.0, 0.0], [0.0, 2.0]]),
        "b.weight": torch.tensor([[12.0, 0.0], [0.0, 1.0]]),
        "n.running_var": torch.full((2,), 99.0),
    }
    dim = PrunableDim(
        "d", 2, [("a.weight", 0, 1, 2), ("b.weight", 1, 0, 1), ("n.running_var", 0, 0, 1)]
    )
    assert score(dim, state).tolist() == pytest.approx([(25 + 144) ** 0.5, (1 + 4 + 1) ** 0.5])


def test_a_first_order_score_is_the_squared_change_of_the_loss_with_a_factor_on_the_unit() -> None:
    torch.manual_seed(0)
    network = Network()
    dim = PrunableDim(
        "hidden",
        3,
        [("first.weight", 0, 0, 1), ("first.bias", 0, 0, 1), ("second.weight", 1, 0, 1)],
    )
    learning = base.learning("text_classification")
    batches = [{"ids": torch.randn(8, 4), "target": torch.randint(0, 2, (8,))} for _ in range(3)]
    expected = torch.zeros(3)
    for batch in batches:
        # The derivative for a factor on both sides of a unit.
        factor = torch.ones(3, requires_grad=True)
        loss = learning.loss(lambda ids, factor=factor: network.scaled(ids, factor), batch, None)
        (loss.total / loss.count).backward()
        assert factor.grad is not None
        expected += factor.grad**2
    scores = gradient_scores(network, [dim], learning, batches)["hidden"]
    torch.testing.assert_close(scores, expected / 3)
    assert all(parameter.grad is None for parameter in network.parameters())


def test_a_second_order_score_weighs_each_weight_by_its_fisher_information() -> None:
    torch.manual_seed(0)
    network = Network()
    dim = PrunableDim("hidden", 3, [("first.weight", 0, 0, 1), ("second.weight", 1, 0, 1)])
    learning = base.learning("text_classification")
    batches = [{"ids": torch.randn(8, 4), "target": torch.randint(0, 2, (8,))} for _ in range(3)]
    expected = torch.zeros(3)
    for batch in batches:
        network.requires_grad_(True)
        loss = learning.loss(network, batch, None)
        weights = [network.first.weight, network.second.weight]
        into, out = torch.autograd.grad(loss.total / loss.count, weights)
        expected += (network.first.weight.detach() * into).square().sum(1)
        expected += (network.second.weight.detach() * out).square().sum(0)
    scores = gradient_scores(network, [dim], learning, batches, "fisher")["hidden"]
    torch.testing.assert_close(scores, expected / 3)


def test_units_whose_weights_grow_have_the_highest_movement() -> None:
    torch.manual_seed(0)
    network = Network()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    dim = PrunableDim("hidden", 3, [("second.weight", 1, 0, 1)])
    learning = base.learning("text_classification")
    batch = {"ids": torch.randn(8, 4), "target": torch.randint(0, 2, (8,))}
    one = movement_scores(network, [dim], learning, [batch], 0.1)["hidden"]
    network.requires_grad_(True)
    loss = learning.loss(network, batch, None)
    (gradient,) = torch.autograd.grad(loss.total / loss.count, [network.second.weight])
    first = -(network.second.weight.detach() * gradient).sum(0)
    torch.testing.assert_close(one, first)
    # The second step is taken with the weights that the first one made.
    two = movement_scores(network, [dim], learning, [batch, batch], 0.1)["hidden"]
    assert not torch.allclose(two, 2 * first)
    for name, value in network.state_dict().items():
        torch.testing.assert_close(value, before[name])


@pytest.mark.parametrize("as_tuple", [False, True])
def test_a_layer_is_worth_the_squared_change_of_the_loss_without_it(as_tuple: bool) -> None:
    torch.manual_seed(0)
    network = Residual(as_tuple)
    learning = base.learning("text_classification")
    batches = [{"ids": torch.randn(8, 4), "target": torch.randint(0, 2, (8,))} for _ in range(3)]
    expected = torch.zeros(3)
    for batch in batches:
        losses = []
        for lost in (None, 0, 1, 2):
            loss = learning.loss(lambda ids, lost=lost: network(ids, lost), batch, None)
            losses.append((loss.total / loss.count).item())
        expected += (torch.tensor(losses[1:]) - losses[0]) ** 2
    dim = PrunableDim("layers", 3, (), modules=True)
    scores = dropped_losses(network, dim, learning, batches)
    torch.testing.assert_close(scores, expected / 3)
    # The layer that adds nothing.
    assert scores[1] == 0
    assert not any(layer._forward_hooks for layer in network.layers)


def test_layers_are_dropped_whole_whatever_the_multiple() -> None:
    dim = PrunableDim("layers", 24, (), modules=True)
    assert select(dim, torch.arange(24.0), 0.25, multiple=16).tolist() == list(range(6, 24))
    names = ["layers.3.up.weight", "layers.12", "head.weight", "layers"]
    assert [dim.unit_of(name) for name in names] == [3, 12, None, None]


class Residual(torch.nn.Module):
    """Layers that add to their input.

    Args:
        as_tuple: whether a layer returns a tuple, as some encoders' do.
    """

    def __init__(self, as_tuple: bool) -> None:
        super().__init__()
        self.layers = torch.nn.ModuleList(Adding(scale, as_tuple) for scale in (1.0, 0.0, 0.5))

    def forward(self, ids: torch.Tensor, lost: int | None = None) -> torch.Tensor:
        """Return two logits of each row, without one of the layers."""
        for number, layer in enumerate(self.layers):
            if number != lost:
                ids = layer(ids)
                ids = ids[0] if isinstance(ids, tuple) else ids
        return ids[:, :2]


class Adding(torch.nn.Module):
    """Layer that adds a scaled product to its input."""

    def __init__(self, scale: float, as_tuple: bool) -> None:
        super().__init__()
        self.product = torch.nn.Linear(4, 4)
        self.scale = scale
        self.as_tuple = as_tuple

    def forward(self, x: torch.Tensor) -> Any:
        result = x + self.scale * self.product(x)
        return (result, None) if self.as_tuple else result


class Network(torch.nn.Module):
    """Two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.first = torch.nn.Linear(4, 3)
        self.second = torch.nn.Linear(3, 2)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.second(torch.relu(self.first(ids)))

    def scaled(self, ids: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
        """Return the output with a factor on the inputs and on the outputs of each unit."""
        return self.second(factor * torch.relu(factor * self.first(ids)))
