"""Networks of tables learn what depends on numbers and categories together, and can be exported."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnxruntime
import pytest
import torch

from components.models.feature_layout import FeatureLayout, PeriodicEmbedding, embedding_width
from components.models.ft_transformer.config import FTTransformerConfig
from components.models.ft_transformer.net import FTTransformer
from components.models.mlp.config import MLPConfig
from components.models.mlp.net import MLP
from components.models.table_resnet.config import TableResNetConfig
from components.models.table_resnet.net import TableResNet
from components.stages.compress.quantize import export
from components.tasks.base import Graph

LAYOUT = FeatureLayout(numbers=2, categories=[3])
BUILD: dict[str, Callable[[FeatureLayout], torch.nn.Module]] = {
    "mlp": lambda layout: MLP(
        MLPConfig(hidden=[64, 64], number_width=4, frequencies=8, dropout=0.0), layout, 1
    ),
    "table resnet": lambda layout: TableResNet(
        TableResNetConfig(width=32, blocks=2, hidden=[64], dropout=0.0), layout, 1
    ),
    "feature transformer": lambda layout: FTTransformer(
        FTTransformerConfig(width=32, layers=2, hidden=[64], dropout=0.0), layout, 1
    ),
}
each = pytest.mark.parametrize("name", BUILD)


def rows(seed: int, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Features, and a target that is the first number, the second or their product."""
    generator = torch.Generator().manual_seed(seed)
    numbers = torch.randn(count, 2, generator=generator)
    kinds = torch.randint(0, 3, (count, 1), generator=generator)
    product = numbers[:, :1] * numbers[:, 1:]
    choices = torch.cat([numbers, product], dim=1)
    return torch.cat([numbers, kinds.float()], dim=1), choices.gather(1, kinds)


@each
@pytest.mark.usefixtures("one_thread")
def test_it_learns_what_a_category_makes_of_numbers(name: str) -> None:
    torch.manual_seed(0)
    module = BUILD[name](LAYOUT)
    features, target = rows(0, 2000)
    optimizer = torch.optim.AdamW(module.parameters(), 5e-3)
    for _ in range(12):
        for part in torch.randperm(2000).split(100):
            optimizer.zero_grad()
            loss = torch.nn.functional.mse_loss(module(features[part]), target[part])
            loss.backward()
            optimizer.step()
    features, target = rows(1, 1000)
    module.eval()
    with torch.no_grad():
        error = torch.nn.functional.mse_loss(module(features), target)
    assert error < 0.15 * target.var()


@each
@pytest.mark.parametrize(
    "layout", [FeatureLayout(3, []), FeatureLayout(0, [5, 2]), FeatureLayout(1, [1])]
)
def test_tables_of_numbers_or_categories_alone_are_read(name: str, layout: FeatureLayout) -> None:
    module = BUILD[name](layout).eval()
    features = torch.zeros(4, layout.width)
    features[1, 0] = 1.0 if layout.numbers or layout.categories[0] > 1 else 0.0
    outputs = module(features)
    assert outputs.shape == (4, 1)
    assert torch.isfinite(outputs).all()
    assert not torch.allclose(outputs[0], outputs[1])


@each
def test_the_exported_graph_answers_the_same(name: str) -> None:
    module = BUILD[name](LAYOUT).eval()
    features, _ = rows(2, 7)
    graph = Graph(module, {"features": ("batch", LAYOUT.width)}, ["logits"])
    content = export(graph, {"features": features.numpy()})
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    for count in (1, 5):
        (answers,) = session.run(["logits"], {"features": features[:count].numpy()})
        expected = module(features[:count]).detach().numpy()
        np.testing.assert_allclose(answers, expected, atol=1e-5)


def test_a_periodic_embedding_tells_near_numbers_apart() -> None:
    torch.manual_seed(0)
    embedding = PeriodicEmbedding(numbers=2, width=3, frequencies=4, deviation=2.0)
    numbers = torch.tensor([[0.0, 0.0], [0.1, 0.0]])
    outputs = embedding(numbers)
    assert outputs.shape == (2, 2, 3)
    assert not torch.allclose(outputs[0, 0], outputs[1, 0])
    torch.testing.assert_close(outputs[0, 1], outputs[1, 1])


def test_columns_of_many_values_have_wider_embeddings() -> None:
    assert [embedding_width(size, 32) for size in (1, 2, 10, 100, 10**6)] == [2, 2, 6, 21, 32]
