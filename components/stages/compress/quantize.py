"""Static int8 by ONNX Runtime: scales are fixed from train rows, so an answer never depends on who else is in the batch."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from components.tasks.base import Graph
from components.training.batches import EncodedRows

_OPSET = 20


def export(graph: Graph, example: dict[str, NDArray[Any]]) -> bytes:
    """A torch graph as ONNX with dynamic axes where the graph names them.

    Args:
        graph: module, inputs, outputs.
        example: arrays of at least two rows, so that no axis is taken for a constant one.
    """
    import torch

    axes = {
        name: {
            axis: torch.export.Dim.DYNAMIC
            for axis, size in enumerate(shape)
            if isinstance(size, str)
        }
        for name, shape in graph.inputs.items()
    }
    inputs = {name: torch.from_numpy(example[name]) for name in graph.inputs}
    program = torch.onnx.export(
        graph.module.eval(),
        (),
        kwargs=inputs,
        dynamo=True,
        opset_version=_OPSET,
        dynamic_shapes=axes,
        input_names=list(graph.inputs),
        output_names=list(graph.outputs),
        verbose=False,
    )
    assert program is not None
    model = program.model_proto
    del model.graph.value_info[:]  # stale shapes make the quantizer refuse the model
    content: bytes = model.SerializeToString()
    return content


def int8(content: bytes, rows: EncodedRows, count: int, seed: int, batch: int = 16) -> bytes:
    """Quantize an ONNX model's weights (per channel) and activations (per tensor), QDQ format (Jacob et al. 2018, arXiv:1712.05877).

    Args:
        content: the fp32 model.
        rows: train rows; `count` of them set the ranges.
    """
    from onnxruntime.quantization import (
        CalibrationDataReader,
        CalibrationMethod,
        QuantFormat,
        QuantType,
        quantize_static,
    )
    from onnxruntime.quantization.shape_inference import quant_pre_process

    chosen = np.random.default_rng(seed).choice(
        len(rows), size=min(count, len(rows)), replace=False
    )

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self._batches: Iterator[dict[str, Any]] = (
                {
                    name: value
                    for name, value in rows.batch(chosen[i : i + batch]).items()
                    if name != "target"
                }
                for i in range(0, len(chosen), batch)
            )

        def get_next(self) -> dict[str, Any] | None:
            return next(self._batches, None)

    with tempfile.TemporaryDirectory() as folder, one_thread_sessions():
        source, prepared, target = (
            Path(folder) / name for name in ("fp32.onnx", "prepared.onnx", "int8.onnx")
        )
        source.write_bytes(content)
        quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
        quantize_static(
            str(prepared),
            str(target),
            Reader(),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=["Conv", "MatMul", "Gemm", "Gather"],
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax,
            extra_options={"MatMulConstBOnly": True},
        )
        return target.read_bytes()


@contextmanager
def one_thread_sessions() -> Iterator[None]:
    """Give one thread to the sessions that ONNX Runtime's quantizer opens while the block runs.

    The quantizer takes no options for them. By default a session has a thread for each core of the machine, whatever this process may use.
    """
    import onnxruntime

    original = onnxruntime.SessionOptions

    def limited() -> Any:
        options = original()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        return options

    onnxruntime.SessionOptions = limited
    try:
        yield
    finally:
        onnxruntime.SessionOptions = original
