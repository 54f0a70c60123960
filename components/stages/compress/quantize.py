"""Static int8 quantization by ONNX Runtime.

Scales are fixed from train rows, so an answer does not depend on the rest of the batch.
"""

from __future__ import annotations

import logging
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from components.tasks.base import Arrays, Graph
from components.training.batches import EncodedRows

_OPSET = 20
_QUANTIZED = ("Conv", "MatMul", "Gemm", "Gather")
# Their sums go on in fp32. Rounded once more, they would be less exact and no faster.
_FP32_OUTPUTS = ("MatMul", "Gemm")


def export(graph: Graph, example: dict[str, NDArray[Any]]) -> bytes:
    """Return a torch graph as ONNX, with dynamic axes where the graph names them.

    Args:
        graph: module, inputs, outputs.
        example: arrays of at least two rows, so that no axis looks constant.
    """
    import torch

    _keep_operator_table()
    dynamic = torch.export.Dim.DYNAMIC
    axes: dict[str, dict[int, Any]] = {}
    for name, shape in graph.inputs.items():
        axes[name] = {axis: dynamic for axis, size in enumerate(shape) if isinstance(size, str)}
    inputs = {name: torch.from_numpy(example[name]) for name in graph.inputs}
    # The exporter would trace a backward pass too, and then drop it.
    with torch.no_grad(), quiet_exporters():
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
    # Shapes of before the export make the quantizer refuse the model.
    del model.graph.value_info[:]
    _clear_metadata(model)
    content: bytes = model.SerializeToString()
    return content


@contextmanager
def quiet_exporters() -> Iterator[None]:
    """Hide what exporters write to the log: deprecations, and libraries that are not needed."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)


@cache
def _keep_operator_table() -> None:
    """Let torch make its table of the operators of ONNX once in this process.

    `torch.onnx.export` makes an equal table for each graph, which takes half of its time.
    """
    from torch.onnx._internal.exporter import _registration

    registry: Any = _registration.ONNXRegistry
    registry.from_torchlib = staticmethod(cache(registry.from_torchlib))


def _clear_metadata(model: Any) -> None:
    """Remove what the export notes about its source: file paths and line numbers of this machine.

    They would change the bytes of a bundle with the folder of the project.
    """
    graph = model.graph
    for part in (model, graph, *graph.node, *graph.input, *graph.output, *graph.initializer):
        del part.metadata_props[:]
        part.doc_string = ""


def int8(
    content: bytes,
    rows: EncodedRows,
    count: int,
    seed: int,
    batch: int = 16,
    calibration: str = "minmax",
    fp32: Sequence[str] = (),
) -> bytes:
    """Quantize an ONNX model in QDQ format (Jacob et al. 2018, arXiv:1712.05877).

    Weights are quantized per channel, activations per tensor.

    Args:
        content: the fp32 model.
        rows: train rows.
        count: number of the rows that set the ranges.
        seed: of their choice.
        batch: rows that are run at a time.
        calibration: how ranges follow from the values that occur: minmax, percentile (99.999%)
            or entropy (Migacz 2017).
        fp32: names of operators that stay as they are.
    """
    from onnxruntime.quantization import (
        CalibrationDataReader,
        CalibrationMethod,
        QuantFormat,
        QuantType,
        quantize_static,
    )
    from onnxruntime.quantization.shape_inference import quant_pre_process

    methods = {
        "minmax": CalibrationMethod.MinMax,
        "percentile": CalibrationMethod.Percentile,
        "entropy": CalibrationMethod.Entropy,
    }

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            # Histograms are made of arrays of one shape.
            same_shape = calibration != "minmax"
            self._batches = _calibration_batches(rows, count, seed, batch, same_shape)

        def get_next(self) -> dict[str, Any] | None:
            """Return the next calibration batch; None after the last."""
            return next(self._batches, None)

    with tempfile.TemporaryDirectory() as folder, one_thread_sessions():
        source = Path(folder) / "fp32.onnx"
        prepared = Path(folder) / "prepared.onnx"
        target = Path(folder) / "int8.onnx"
        source.write_bytes(content)
        quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
        quantize_static(
            str(prepared),
            str(target),
            Reader(),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(_QUANTIZED),
            nodes_to_exclude=[*fp32, *_products_of_activations(content)],
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=methods[calibration],
            extra_options={"OpTypesToExcludeOutputQuantization": list(_FP32_OUTPUTS)},
        )
        return target.read_bytes()


def quantizable(content: bytes) -> list[str]:
    """Return the names of the operators of an ONNX model that `int8` quantizes."""
    import onnx

    graph = onnx.load_from_string(content).graph
    left_out = set(_products_of_activations(content))
    names = [node.name for node in graph.node if node.op_type in _QUANTIZED]
    return [name for name in names if name not in left_out]


def _products_of_activations(content: bytes) -> list[str]:
    """Return the names of the products without a weight, such as those of attention."""
    import onnx

    graph = onnx.load_from_string(content).graph
    # A weight may be transposed by a node of its own.
    constants = {weight.name for weight in graph.initializer}
    products = []
    for node in graph.node:
        if constants.issuperset(node.input):
            constants.update(node.output)
        elif node.op_type == "MatMul" and constants.isdisjoint(node.input):
            products.append(node.name)
    return products


def sensitivities(
    quantize: Callable[[Sequence[str]], bytes],
    outputs: Callable[[bytes], NDArray[Any]],
    expected: NDArray[Any],
    operators: Sequence[str],
) -> dict[str, float]:
    """Return the error that each operator causes when it alone is quantized.

    Args:
        quantize: converts the operators that stay fp32 to a quantized model.
        outputs: returns the outputs (n, d) of a model.
        expected: those of the fp32 model.
        operators: names of all that can be quantized.

    Returns:
        name -> mean squared error of the outputs, the most sensitive operator first.
    """
    errors = {}
    for operator in operators:
        others = [name for name in operators if name != operator]
        difference = outputs(quantize(others)) - expected
        errors[operator] = float(np.mean(np.square(difference)))
    return dict(sorted(errors.items(), key=lambda item: -item[1]))


def int8_within(
    quantize: Callable[[Sequence[str]], bytes],
    drop: Callable[[bytes], float],
    max_drop: float,
    ranking: Callable[[], Sequence[str]],
) -> tuple[bytes, list[str]]:
    """Return a quantized model that loses at most `max_drop`, and the operators that stay fp32.

    The most sensitive operators stay in fp32: 1, 2, 4 and so on, until the loss is small enough.
    If it never is, the last model is returned.

    Args:
        quantize: converts the operators that stay fp32 to a quantized model.
        drop: returns the share of the metric that a model loses.
        max_drop: the largest share that it may lose.
        ranking: returns all operators, the most sensitive first. It is called when it is needed.
    """
    kept: list[str] = []
    content = quantize(kept)
    if drop(content) <= max_drop:
        return content, kept
    ranked = ranking()
    count = 1
    while count < len(ranked):
        kept = list(ranked[:count])
        content = quantize(kept)
        if drop(content) <= max_drop:
            break
        count *= 2
    return content, kept


def _calibration_batches(
    rows: EncodedRows,
    count: int,
    seed: int,
    batch: int,
    same_shape: bool,
) -> Iterator[dict[str, Any]]:
    """Yield the inputs of random train rows in batches.

    Args:
        rows: train rows.
        count: number of the rows that are drawn.
        seed: of their choice.
        batch: rows of a batch.
        same_shape: pad all batches to the longest of the rows, and leave out the rest of them.
    """
    rng = np.random.default_rng(seed)
    chosen = rng.choice(len(rows), size=min(count, len(rows)), replace=False)
    if same_shape:
        padded = _inputs(rows.batch(chosen))
        whole = len(chosen) // batch * batch or len(chosen)
        for start in range(0, whole, batch):
            yield {name: value[start : start + batch] for name, value in padded.items()}
        return
    for start in range(0, len(chosen), batch):
        yield _inputs(rows.batch(chosen[start : start + batch]))


def _inputs(arrays: Arrays) -> dict[str, Any]:
    """Return the inputs of a batch, without its targets."""
    return {name: value for name, value in arrays.items() if name != "target"}


@contextmanager
def one_thread_sessions() -> Iterator[None]:
    """Give one thread to the sessions that ONNX Runtime's quantizer opens while the block runs.

    The quantizer takes no options for them. By default a session has a thread for each core of the
    machine, even if this process may use fewer.
    """
    import onnxruntime

    original = onnxruntime.SessionOptions

    def limited() -> Any:
        """Return session options with one thread within an operator and one between operators."""
        options = original()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        return options

    onnxruntime.SessionOptions = limited
    try:
        yield
    finally:
        onnxruntime.SessionOptions = original
