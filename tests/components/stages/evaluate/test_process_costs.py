"""Load time, peak memory and parameters of candidates; what cannot be measured is unknown."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file
from stage_runner import TEXT, StageRunner

from components.core.bundles import read_bundle, write_bundle
from components.core.errors import GristmillError
from components.core.tables import read_table
from components.stages.evaluate import process_costs
from components.stages.evaluate.parameter_count import count_parameters
from components.stages.evaluate.process_costs import ProcessCosts, peak_memory_bytes
from components.tasks import base

UNKNOWN = {"load_ms": None, "peak_memory_bytes": None}


def onnx_graph() -> bytes:
    """A graph with 6 weights, 2 biases, and a shape."""
    from onnx import TensorProto, helper, numpy_helper

    tensors = [
        numpy_helper.from_array(np.ones((3, 2), np.int8), "weights"),
        numpy_helper.from_array(np.ones(2, np.float32), "bias"),
        numpy_helper.from_array(np.array([1, 2, 3, 4], np.int64), "shape"),
    ]
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    graph = helper.make_graph([], "g", [value], [value], initializer=tensors)
    return bytes(helper.make_model(graph).SerializeToString())


def test_parameters_are_the_elements_of_the_weights(network: Path, tmp_path: Path) -> None:
    tensors = load_file(network / "weights.safetensors")
    assert count_parameters(network) == sum(tensor.size for tensor in tensors.values()) > 1000
    card, _ = read_bundle(network)
    write_bundle(tmp_path / "int8", card, {"model.onnx": onnx_graph(), "encoder/x": b"{}"})
    assert count_parameters(tmp_path / "int8") == 8


def test_a_candidate_is_loaded_in_a_process_of_its_own(network: Path, reviews: StageRunner) -> None:
    cases = base.evaluator(TEXT).cases(read_table(reviews.root / "clean", "validation"))
    broken = reviews.root / "nothing"
    costs = ProcessCosts({"broken": broken, "net": network}, [case.query for case in cases])
    measured = costs.collect(60)
    assert measured["broken"] == UNKNOWN
    assert 0 < measured["net"]["load_ms"] < 60_000
    # Torch alone takes more.
    assert measured["net"]["peak_memory_bytes"] > 50e6


def test_nothing_is_measured_once_patience_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    started = []

    class Slow:
        """A child that takes a while, and fails."""

        def __init__(self, *_: object) -> None:
            started.append(self)

        def __enter__(self) -> Slow:
            return self

        def __exit__(self, *_: object) -> None: ...

        def call(self, *_: object) -> None:
            process_costs.time.sleep(0.3)
            raise GristmillError("failed")

    monkeypatch.setattr(process_costs, "SandboxedCall", Slow)
    costs = ProcessCosts({"a": Path("a"), "b": Path("b")}, []).collect(0.0)
    assert costs == {"a": UNKNOWN, "b": UNKNOWN}
    assert len(started) == 1


def test_memory_that_cannot_be_read_is_unknown(tmp_path: Path) -> None:
    assert peak_memory_bytes(tmp_path / "none") is None
    status = tmp_path / "status"
    status.write_text("Name:\tpython\n")
    assert peak_memory_bytes(status) is None
    status.write_text("Name:\tpython\nVmHWM:\t    1024 kB\nVmRSS:\t 12 kB\n")
    assert peak_memory_bytes(status) == 1 << 20
    assert json.dumps(UNKNOWN)
