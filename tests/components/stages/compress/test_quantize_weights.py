"""Weights alone in 8 and 4 bits: how exact the answers stay, and what is left as it is."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from components.inference.predictor import onnx_scorer
from components.stages.compress.quantize_weights import (
    half_weights,
    quantize_weights,
    weight_operators,
)

ROWS = 50
IDS = np.arange(ROWS, dtype=np.int64)
each_number_of_bits = pytest.mark.parametrize("bits", [8, 4])


def graph(nodes: Sequence[Any], weights: dict[str, NDArray[Any]], ids: bool = True) -> bytes:
    """Return an ONNX model from `ids` (n,), or `x` (n, t), to `logits`."""
    kind = TensorProto.INT64 if ids else TensorProto.FLOAT
    shape: list[Any] = ["n"] if ids else ["n", "t"]
    given = helper.make_tensor_value_info("ids" if ids else "x", kind, shape)
    out = helper.make_tensor_value_info("logits", TensorProto.FLOAT, None)
    initializers = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    body = helper.make_graph(list(nodes), "g", [given], [out], initializers)
    model = helper.make_model(body, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    return bytes(model.SerializeToString())


def answers(content: bytes, **inputs: NDArray[Any]) -> NDArray[np.float32]:
    """Return the logits of a model."""
    return onnx_scorer(content)("forward", inputs)["logits"]


def operators(content: bytes) -> Counter[str]:
    """Return how often each operator occurs."""
    return Counter(node.op_type for node in onnx.load_from_string(content).graph.node)


def table_of(width: int) -> NDArray[np.float32]:
    """Return a table with a row of zeros, a constant one and one with an outlier."""
    table = np.random.default_rng(0).normal(size=(ROWS, width)).astype(np.float32)
    table[0] = 0
    table[1] = 3
    table[2, width // 2] = 400
    return table


@each_number_of_bits
@pytest.mark.parametrize("width", [1, 12, 32, 130, 384])
def test_a_number_of_a_table_moves_by_at_most_half_a_step(bits: int, width: int) -> None:
    table = table_of(width)
    lookup = helper.make_node("Gather", ["table", "ids"], ["logits"], "lookup")
    content = graph([lookup], {"table": table})
    small = quantize_weights(content, bits)
    block = {8: 128, 4: 32}[bits]
    moved = np.abs(answers(small, ids=IDS) - table)
    for start in range(0, width, block):
        part = table[:, start : start + block]
        step = np.maximum(part.max(1), 0) - np.minimum(part.min(1), 0)
        # Half a step by the number, half a step by the integer that stands for zero.
        most = step / (2**bits - 1) * (1 + 1e-3)
        assert (moved[:, start : start + block] <= most[:, None]).all()
    assert not answers(small, ids=IDS)[0].any()
    if width == 384:
        assert len(small) < len(content) * bits / 32 * 1.6


@each_number_of_bits
def test_a_product_is_close_and_a_row_does_not_see_the_others(bits: int) -> None:
    rng = np.random.default_rng(1)
    weights = {"w": rng.normal(size=(96, 40)).astype(np.float32), "b": np.ones(40, np.float32)}
    head = helper.make_node("Gemm", ["x", "w", "b"], ["logits"], "head")
    small = quantize_weights(graph([head], weights, ids=False), bits)
    assert operators(small)["MatMulNBits"] == 1
    x = rng.normal(size=(8, 96)).astype(np.float32)
    exact = x @ weights["w"] + 1
    error = np.abs(answers(small, x=x) - exact).mean() / np.abs(exact).mean()
    assert 0 < error < {8: 0.02, 4: 0.15}[bits]
    x[1:] *= 1000
    np.testing.assert_allclose(answers(small, x=x)[0], answers(small, x=x[:1])[0], rtol=1e-5)


@each_number_of_bits
def test_a_table_with_two_lookups_and_a_product_is_quantized_for_each(bits: int) -> None:
    """The head of a language model is its table of embeddings."""
    table = table_of(64)[3:35]
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["first"], "first"),
        helper.make_node("Gather", ["table", "ids"], ["second"], "second"),
        helper.make_node("Add", ["first", "second"], ["both"], "sum"),
        helper.make_node("Transpose", ["table"], ["turned"], "turn", perm=[1, 0]),
        helper.make_node("MatMul", ["both", "turned"], ["logits"], "head"),
    ]
    content = graph(nodes, {"table": table})
    assert weight_operators(content) == ["first", "second"]
    small = quantize_weights(content, bits)
    assert operators(small)["GatherBlockQuantized"] == 2
    names = [weight.name for weight in onnx.load_from_string(small).graph.initializer]
    assert len(names) == len(set(names)) == 4
    ids = np.arange(len(table))
    expected = answers(content, ids=ids)
    error = np.abs(answers(small, ids=ids) - expected).mean() / np.abs(expected).mean()
    assert error < {8: 0.02, 4: 0.15}[bits]


def test_what_has_no_matrix_of_floats_stays_as_it_is() -> None:
    weights = {
        "numbers": np.arange(ROWS, dtype=np.int64)[:, None],
        "columns": np.ones((4, ROWS), np.float32),
        "vector": np.ones(ROWS, np.float32),
    }
    nodes = [
        helper.make_node("Gather", ["numbers", "ids"], ["a"], "whole numbers"),
        helper.make_node("Gather", ["columns", "ids"], ["b"], "columns of a table", axis=1),
        helper.make_node("Gather", ["vector", "ids"], ["c"], "a vector"),
        helper.make_node("Cast", ["a"], ["d"], "cast", to=TensorProto.FLOAT),
        helper.make_node("MatMul", ["b", "d"], ["e"], "of activations"),
        helper.make_node("Add", ["e", "c"], ["logits"], "sum"),
    ]
    content = graph(nodes, weights)
    assert weight_operators(content) == []
    for bits in (8, 4):
        same = quantize_weights(content, bits)
        assert operators(same) == operators(content)
        np.testing.assert_array_equal(answers(same, ids=IDS), answers(content, ids=IDS))


@each_number_of_bits
def test_operators_that_are_named_stay_fp32(bits: int) -> None:
    table = table_of(48)
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["x"], "lookup"),
        helper.make_node("MatMul", ["x", "w"], ["logits"], "head"),
    ]
    content = graph(nodes, {"table": table, "w": np.eye(48, dtype=np.float32)})
    assert weight_operators(content) == ["lookup", "head"]
    kept = operators(quantize_weights(content, bits, fp32=["lookup"]))
    assert kept == {"Gather": 1, "MatMulNBits": 1}
    kept = operators(quantize_weights(content, bits, fp32=["head"]))
    assert kept == {"GatherBlockQuantized": 1, "MatMul": 1}
    both = quantize_weights(content, bits, fp32=["lookup", "head"])
    np.testing.assert_array_equal(answers(both, ids=IDS), answers(content, ids=IDS))


def test_equal_models_give_equal_bytes_and_the_log_stays_as_it_was() -> None:
    root = logging.getLogger()
    before = (list(root.handlers), root.level)
    lookup = helper.make_node("Gather", ["table", "ids"], ["logits"], "lookup")
    content = graph([lookup], {"table": table_of(32)})
    assert quantize_weights(content, 4) == quantize_weights(content, 4)
    assert (list(root.handlers), root.level) == before


def test_weights_in_fp16_take_half_of_the_bytes_and_are_rounded_alone() -> None:
    table = table_of(384)
    lookup = helper.make_node("Gather", ["table", "ids"], ["logits"], "lookup")
    content = graph([lookup], {"table": table})
    small = half_weights(content)
    assert len(small) < 0.51 * len(content)
    rounded = table.astype(np.float16).astype(np.float32)
    assert (answers(small, ids=IDS) == rounded).all()


@pytest.mark.parametrize(("width", "largest"), [(4, 1.0), (384, 1e5)])
def test_small_weights_and_those_beyond_fp16_stay_as_they_are(width: int, largest: float) -> None:
    weights = {"table": np.full((ROWS, width), largest, np.float32)}
    content = graph([helper.make_node("Gather", ["table", "ids"], ["logits"], "lookup")], weights)
    assert operators(half_weights(content)) == Counter(Gather=1)
    assert (answers(half_weights(content), ids=IDS) == largest).all()
