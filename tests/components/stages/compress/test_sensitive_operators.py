"""Operators that int8 harms stay in fp32, as few as are needed."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from components.stages.compress.quantize import int8_within, quantizable, sensitivities
from components.stages.compress.steps import lost_share

# What each operator costs when it is quantized.
COSTS = {"a": 0.01, "b": 0.2, "c": 0.0, "d": 0.05, "e": 0.001}


def quantize(fp32: Sequence[str]) -> bytes:
    """Return a stated graph: the names of the operators that are quantized."""
    return ",".join(name for name in COSTS if name not in fp32).encode()


def drop(graph: bytes) -> float:
    """Return the summed costs of what is quantized."""
    return sum(COSTS[name] for name in graph.decode().split(",") if name)


def test_products_without_a_weight_stay_as_they_are() -> None:
    square = helper.make_tensor_value_info("x", TensorProto.FLOAT, [4, 4])
    out = helper.make_tensor_value_info("out", TensorProto.FLOAT, [4, 4])
    weight = numpy_helper.from_array(np.eye(4, dtype=np.float32), "weight")
    nodes = [
        helper.make_node("Transpose", ["weight"], ["turned"]),
        helper.make_node("MatMul", ["x", "turned"], ["query"], "of a turned weight"),
        helper.make_node("MatMul", ["weight", "x"], ["key"], "of a weight on the left"),
        helper.make_node("MatMul", ["query", "key"], ["scores"], "of activations"),
        helper.make_node("Gemm", ["scores", "weight"], ["out"], "of the head"),
    ]
    model = helper.make_model(helper.make_graph(nodes, "g", [square], [out], [weight]))
    assert quantizable(model.SerializeToString()) == [
        "of a turned weight",
        "of a weight on the left",
        "of the head",
    ]


def test_the_most_sensitive_operator_comes_first() -> None:
    expected = np.zeros((2, 2))
    errors = sensitivities(
        quantize, lambda graph: expected + drop(graph), expected, operators=list(COSTS)
    )
    assert list(errors) == ["b", "d", "a", "e", "c"]
    assert errors["b"] == pytest.approx(0.2**2)


@pytest.mark.parametrize(
    ("max_drop", "kept"),
    [
        (1.0, []),
        (0.1, ["b"]),
        (0.02, ["b", "d"]),
        (0.0005, ["b", "d", "a", "e"]),
        (-1.0, ["b", "d", "a", "e"]),
    ],
)
def test_operators_stay_fp32_until_the_loss_is_small_enough(
    max_drop: float, kept: list[str]
) -> None:
    graph, fp32 = int8_within(quantize, drop, max_drop, lambda: ["b", "d", "a", "e", "c"])
    assert fp32 == kept
    assert graph == quantize(kept)


def test_the_scan_is_not_made_where_all_may_be_quantized() -> None:
    _, fp32 = int8_within(quantize, drop, 1.0, lambda: pytest.fail("scanned"))
    assert fp32 == []


@pytest.mark.parametrize(
    ("before", "after", "share"),
    [
        (0.8, 0.76, 0.05),
        (0.8, 0.84, -0.05),
        # Metrics that are minimized are negative here: an error of 500 became one of 550.
        (-500.0, -550.0, 0.1),
        (-500.0, -450.0, -0.1),
        (0.0, 0.0, 0.0),
        (0.0, -1.0, math.inf),
        (0.0, 1.0, -math.inf),
    ],
)
def test_a_loss_is_a_share_of_the_metric_in_any_unit(
    before: float, after: float, share: float
) -> None:
    assert lost_share(before, after) == pytest.approx(share)
