"""The quantizer's sessions have one thread, whatever the machine has."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from components.stages.compress import quantize


class FewRows:
    """Rows as the quantizer asks for them."""

    def __len__(self) -> int:
        return 8

    def batch(self, chosen: Any) -> dict[str, Any]:
        return {"x": np.random.default_rng(0).normal(size=(len(chosen), 4)).astype(np.float32)}


def test_all_sessions_of_a_quantization_have_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    weights = numpy_helper.from_array(
        np.random.default_rng(1).normal(size=(4, 3)).astype(np.float32), "w"
    )
    sides = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", size])
        for name, size in (("x", 4), ("y", 3))
    ]
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])], "g", sides[:1], sides[1:], [weights]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])
    model.ir_version = 10
    threads: list[int] = []
    original = onnxruntime.InferenceSession

    def session(model: Any, options: Any = None, **named: Any) -> Any:
        threads.append((options or named["sess_options"]).intra_op_num_threads)
        return original(
            model,
            options or named.pop("sess_options"),
            **{name: value for name, value in named.items() if name != "sess_options"},
        )

    monkeypatch.setattr(onnxruntime, "InferenceSession", session)
    kind = onnxruntime.SessionOptions
    content = quantize.int8(model.SerializeToString(), FewRows(), 8, 0)  # type: ignore[arg-type]
    assert {tensor.data_type for tensor in onnx.load_from_string(content).graph.initializer} & {
        TensorProto.INT8
    }
    assert threads
    assert set(threads) == {1}
    assert onnxruntime.SessionOptions is kind
