"""Load time, peak memory and parameters of candidates; what cannot be measured is unknown."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import load_file
from stage_runner import TEXT, StageRunner

from components.core.bundles import read_bundle, write_bundle
from components.core.errors import BundleError, EnvironmentFault
from components.core.tables import read_table
from components.stages.evaluate import process_costs, stage
from components.stages.evaluate.parameter_count import count_parameters
from components.stages.evaluate.params import EvaluateParams
from components.stages.evaluate.process_costs import ProcessCosts, peak_memory_bytes
from components.tasks import base

UNKNOWN = {"load_ms": None, "peak_memory_bytes": None}


def onnx_graph() -> bytes:
    """A graph with 6 weights, 2 biases, and a shape."""
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


def bundle_of(network: Path, folder: Path, nodes: Sequence[Any], weights: Sequence[Any]) -> Path:
    """Write the bundle of an ONNX graph from `ids` to `logits`, with the encoder of a network."""
    card, files = read_bundle(network)
    ids = helper.make_tensor_value_info("ids", TensorProto.INT64, ["n", "t"])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, None)
    graph = helper.make_graph(list(nodes), "g", [ids], [logits], list(weights))
    opset = [helper.make_opsetid("", 20)]
    model = helper.make_model(graph, opset_imports=opset, ir_version=10)
    encoder = {name: content for name, content in files.items() if name.startswith("encoder/")}
    kept = {**encoder, "model.onnx": model.SerializeToString()}
    write_bundle(folder, replace(card, runtime="onnx", versions={}), kept)
    return folder


def endless(network: Path, folder: Path) -> Path:
    """Write a bundle whose graph counts to 2^62 before it answers."""
    number = helper.make_tensor_value_info("number", TensorProto.INT64, [])
    go_on = helper.make_tensor_value_info("go_on", TensorProto.BOOL, [])
    before = helper.make_tensor_value_info("before", TensorProto.FLOAT, [1, 2])
    after = helper.make_tensor_value_info("after", TensorProto.FLOAT, [1, 2])
    still = helper.make_tensor_value_info("still", TensorProto.BOOL, [])
    steps = [
        helper.make_node("Add", ["before", "before"], ["after"]),
        helper.make_node("Identity", ["go_on"], ["still"]),
    ]
    body = helper.make_graph(steps, "body", [number, go_on, before], [still, after])
    weights = [
        numpy_helper.from_array(np.array(2**62), "times"),
        numpy_helper.from_array(np.array(True), "yes"),
        numpy_helper.from_array(np.zeros((1, 2), np.float32), "start"),
    ]
    loop = helper.make_node("Loop", ["times", "yes", "start"], ["logits"], body=body)
    return bundle_of(network, folder, [loop], weights)


def giant(network: Path, folder: Path) -> Path:
    """Write a bundle whose graph makes an array of 4 EB."""
    shape = numpy_helper.from_array(np.array([2**30, 2**30]), "shape")
    filled = helper.make_node("ConstantOfShape", ["shape"], ["logits"])
    return bundle_of(network, folder, [filled], [shape])


def queries_of(reviews: StageRunner) -> list[Any]:
    """Return the queries of validation."""
    cases = base.evaluator(TEXT).cases(read_table(reviews.root / "clean", "validation"))
    return [case.query for case in cases]


def test_a_candidate_is_loaded_in_a_process_of_its_own(network: Path, reviews: StageRunner) -> None:
    with ProcessCosts({"net": network}, queries_of(reviews)) as processes:
        costs = processes.of("net")
    assert 0 < costs["load_ms"] < 60_000
    # Torch alone takes more.
    assert costs["peak_memory_bytes"] > 50e6


def test_candidates_that_fail_stop_no_other_and_are_named(
    network: Path, reviews: StageRunner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process_costs, "_SECONDS", 10.0)
    job = reviews.job("evaluate", ["clean"], ["leaderboard"], EvaluateParams(latency_queries=20))
    evaluator = base.evaluator(TEXT)
    cases = list(evaluator.cases(read_table(reviews.root / "clean", "validation")))
    bundles = {
        "missing": tmp_path / "nothing",
        "classical": network,
        "endless": endless(network, tmp_path / "endless"),
        "giant": giant(network, tmp_path / "giant"),
        "trained": network,
    }
    results, failed = stage._results(job, bundles, cases, cases)
    assert list(results) == ["classical", "trained"]
    assert results["trained"].row["load_ms"] > 0
    reasons = {row["name"]: row["reason"] for row in failed}
    assert list(reasons) == ["missing", "endless", "giant"]
    assert reasons["endless"] == "does not load and answer within 10 s"
    assert "memory" in reasons["giant"]
    assert "endless: failed, no candidate" in job.journal.path.read_text()


def test_nothing_is_compared_without_the_baseline(reviews: StageRunner, tmp_path: Path) -> None:
    job = reviews.job("evaluate", ["clean"], ["leaderboard"], EvaluateParams())
    with pytest.raises(BundleError):
        stage._results(job, {"classical": tmp_path / "nothing"}, [], [])


def test_costs_are_unknown_where_no_process_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise EnvironmentFault("no process can be started", remedy="gristmill doctor")

    monkeypatch.setattr(process_costs, "SandboxedCall", full)
    with ProcessCosts({"a": Path("a")}, []) as processes:
        assert processes.of("a") == UNKNOWN


def test_no_process_is_left_where_the_stage_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    started = []

    def slow(folder: Path, _: object) -> dict[str, Any]:
        started.append(folder)
        time.sleep(0.3)
        return {}

    monkeypatch.setattr(process_costs, "_measure", slow)
    with (
        pytest.raises(KeyboardInterrupt),
        ProcessCosts({"a": Path("a"), "b": Path("b")}, []),
    ):
        raise KeyboardInterrupt
    assert started == [Path("a")]


def test_memory_that_cannot_be_read_is_unknown(tmp_path: Path) -> None:
    assert peak_memory_bytes(tmp_path / "none") is None
    status = tmp_path / "status"
    status.write_text("Name:\tpython\n")
    assert peak_memory_bytes(status) is None
    status.write_text("Name:\tpython\nVmHWM:\t    1024 kB\nVmRSS:\t 12 kB\n")
    assert peak_memory_bytes(status) == 1 << 20
    assert json.dumps(UNKNOWN)
