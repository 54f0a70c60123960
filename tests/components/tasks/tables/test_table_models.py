"""The architectures read the encoder's features, and stay as good as int8 graphs."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import onnxruntime
import pyarrow as pa
import pytest
import torch
from numpy.typing import NDArray
from table_samples import diamonds, fitted

from components.core.params import Strict
from components.stages.compress.quantize import export, int8
from components.tasks.base import Arrays, Graph
from components.tasks.shared.models.tables.models import TableModels, TableNetParams
from components.training.batches import EncodedRows

ARCHITECTURES = TableModels.architectures
SMALL: dict[str, dict[str, Any]] = {
    "mlp": {"hidden": [64, 64], "dropout": 0.0},
    "table_resnet": {"width": 48, "blocks": 2, "hidden": [64], "dropout": 0.0},
    "ft_transformer": {"width": 16, "layers": 1, "hidden": [32], "dropout": 0.0},
}
each = pytest.mark.parametrize("name", ARCHITECTURES)
VALUES = 300


class Rows:
    """Features and targets as `int8` reads them."""

    def __init__(self, features: NDArray[np.float32], target: NDArray[np.float32]) -> None:
        self.features = features
        self.target = target

    def __len__(self) -> int:
        return len(self.features)

    def batch(self, rows: NDArray[np.int64]) -> Arrays:
        return {"features": self.features[rows], "target": self.target[rows]}


def encoded(table: pa.Table) -> Rows:
    return Rows(
        np.array(table["features"].to_pylist(), dtype=np.float32), table["target"].to_numpy()
    )


def learn(module: torch.nn.Module, rows: Rows, epochs: int) -> None:
    features, target = torch.tensor(rows.features), torch.tensor(rows.target)[:, None]
    optimizer = torch.optim.AdamW(module.parameters(), 5e-3)
    for _ in range(epochs):
        for part in torch.randperm(len(rows)).split(100):
            optimizer.zero_grad()
            torch.nn.functional.mse_loss(module(features[part]), target[part]).backward()
            optimizer.step()


def answers(graph: bytes, features: NDArray[np.float32]) -> NDArray[np.float32]:
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    logits: NDArray[np.float32] = session.run(["logits"], {"features": features})[0][:, 0]
    return logits


def quantized(graph: Graph, rows: Rows) -> tuple[bytes, bytes]:
    """Return a graph in fp32 and in int8."""
    content = export(graph, {"features": rows.features[:4]})
    return content, int8(content, cast(EncodedRows, rows), 256, 0)


@each
@pytest.mark.usefixtures("one_thread")
def test_a_network_learns_prices_and_its_int8_graph_answers_like_it(name: str) -> None:
    rows = diamonds(2000)
    encoder = fitted(rows)
    architecture = ARCHITECTURES[name]
    torch.manual_seed(0)
    module = architecture.build(architecture.Config(**SMALL[name]), encoder)
    train = encoded(encoder.encode(rows))
    learn(module, train, 8)
    graph = architecture.graphs(module)["forward"]
    assert graph.inputs == {"features": ("batch", encoder.width)}
    test = encoded(encoder.encode(diamonds(500, 1)))
    exact, rounded = (answers(content, test.features) for content in quantized(graph, train))
    assert np.mean((exact - test.target) ** 2) < 0.1 * test.target.var()
    assert np.mean((rounded - exact) ** 2) < 0.01 * test.target.var()


@pytest.mark.parametrize("name", ["mlp", "table_resnet"])
@pytest.mark.usefixtures("one_thread")
def test_int8_keeps_hundreds_of_categories_apart(name: str) -> None:
    rng = np.random.default_rng(0)
    value = rng.normal(size=VALUES)
    place = np.arange(9000) % VALUES
    carat = rng.normal(size=len(place))
    rows = pa.table(
        {
            "id": [str(number) for number in range(len(place))],
            "carat": carat,
            "cut": [f"cut {index}" for index in place],
            "price": value[place],
        }
    )
    encoder = fitted(rows, {"carat": "number", "cut": "category"})
    assert encoder.columns.sizes == [VALUES + 1]
    architecture = ARCHITECTURES[name]
    torch.manual_seed(0)
    module = architecture.build(architecture.Config(**SMALL[name]), encoder)
    train = encoded(encoder.encode(rows))
    learn(module, train, 6)
    graph = architecture.graphs(module)["forward"]
    exact, rounded = (answers(content, train.features) for content in quantized(graph, train))
    assert np.mean((exact - train.target) ** 2) < 0.2
    assert np.mean((rounded - exact) ** 2) < 0.01


@each
def test_hidden_units_can_be_pruned(name: str) -> None:
    architecture = ARCHITECTURES[name]
    config = architecture.Config(**SMALL[name])
    encoder = fitted(diamonds(30))
    spec = architecture.pruning_spec()
    dims = spec.dims(architecture.build(config, encoder))
    smaller = spec.resize(config, {dim.name: dim.size // 2 for dim in dims})
    pruned = architecture.build(smaller, encoder)
    assert [dim.size for dim in spec.dims(pruned)] == [dim.size // 2 for dim in dims]
    assert not architecture.supports_packing


def test_the_params_choose_an_architecture() -> None:
    class Train(TableNetParams):
        """Params of a task without params of the loss."""

    models = TableModels(Train, Strict)
    assert models.options == {"train": Train}
    assert models.loss_params is Strict
    assert set(models.architectures) == set(Train().nets.model_dump())
