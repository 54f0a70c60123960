"""Quantization of weights alone by ONNX Runtime, without calibration.

They are integers of 8 or 4 bits in blocks, or fp16.

ONNX Runtime rounds the inputs of a product to int8 row by row while it computes. So an answer does
not depend on the rest of the batch.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Weights that share a scale. Blocks of 4 bits are smaller, because they are less exact.
_BLOCKS = {8: 128, 4: 32}
# Tensors of 4 bits exist from this version of ONNX on.
_INT4_OPSET = 21
# Numbers of the smallest weight that is stored in fp16.
_LEAST_HALVED = 256
# The level of ONNX Runtime at which products are computed in int8, which is the fastest.
_INT8_PRODUCTS = 4


def half_weights(content: bytes) -> bytes:
    """Return an ONNX model that stores its weights in fp16 and computes in fp32.

    ONNX Runtime casts the weights once, when it loads the model. Weights beyond the range of fp16
    stay as they are, and small ones too, which a cast would make larger.

    Args:
        content: the fp32 model.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    model = onnx.load_from_string(content)
    graph = model.graph
    casts = []
    for weight in graph.initializer:
        if weight.data_type != TensorProto.FLOAT:
            continue
        values = numpy_helper.to_array(weight)
        if values.size < _LEAST_HALVED or np.abs(values).max() > np.finfo(np.float16).max:
            continue
        name = weight.name
        weight.CopyFrom(numpy_helper.from_array(values.astype(np.float16), f"{name}_fp16"))
        casts.append(
            helper.make_node("Cast", [weight.name], [name], f"{name}_cast", to=TensorProto.FLOAT)
        )
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    result: bytes = model.SerializeToString()
    return result


def weight_operators(content: bytes) -> list[str]:
    """Return the names of the operators of an ONNX model that `quantize_weights` quantizes.

    Args:
        content: the fp32 model.
    """
    return _weight_operators(_with_products(content))


def quantize_weights(content: bytes, bits: int, fp32: Sequence[str] = ()) -> bytes:
    """Round the matrices and tables of an ONNX model to the nearest integers.

    Products become `MatMulNBits`, with a scale for each column and block of their matrix. Lookups
    become `GatherBlockQuantized`, with a scale for each row and block of their table.

    Args:
        content: the fp32 model.
        bits: of a weight, 8 or 4.
        fp32: names of operators that stay as they are.
    """
    from onnx import version_converter

    model = _with_products(content)
    chosen = {name for name in _weight_operators(model) if name not in fp32}
    if bits == 4:
        model = version_converter.convert_version(model, _INT4_OPSET)
    _quantize_lookups(model, chosen, bits)
    result: bytes = _with_quantized_products(model, chosen, bits).SerializeToString()
    return result


def _with_products(content: bytes) -> Any:
    """Return a model with `MatMul` and `Add` in place of `Gemm`, which has no form in blocks."""
    import onnx
    from onnxruntime.quantization.onnx_model import ONNXModel

    model = ONNXModel(onnx.load_from_string(content))
    model.replace_gemm_with_matmul()
    return model.model


def _weight_operators(model: Any) -> list[str]:
    """Return the names of the products and lookups whose matrix (rows, columns) is a constant."""
    from onnx import TensorProto

    matrices = {
        weight.name
        for weight in model.graph.initializer
        if len(weight.dims) == 2 and weight.data_type == TensorProto.FLOAT
    }
    names = []
    for node in model.graph.node:
        is_product = node.op_type == "MatMul" and node.input[1] in matrices
        if is_product or (_reads_rows(node) and node.input[0] in matrices):
            names.append(node.name)
    return names


def _reads_rows(node: Any) -> bool:
    """Return whether an operator looks up rows of a table."""
    axes = [attribute.i for attribute in node.attribute if attribute.name == "axis"]
    return node.op_type == "Gather" and axes in ([], [0])


def _quantize_lookups(model: Any, chosen: Collection[str], bits: int) -> None:
    """Replace the chosen lookups of a model by ones that read integers.

    ONNX Runtime's tool knows tables of 4 bits alone, and quantizes a table once for each lookup.
    """
    import ml_dtypes
    from onnx import helper, numpy_helper

    graph = model.graph
    tables = {weight.name: weight for weight in graph.initializer}
    integer = np.uint8 if bits == 8 else ml_dtypes.uint4
    settings = {"gather_axis": 0, "quantize_axis": 1, "block_size": _BLOCKS[bits], "bits": bits}
    done = set()
    for node in graph.node:
        if node.op_type != "Gather" or node.name not in chosen:
            continue
        table, indices = node.input
        names = [f"{table}_{part}" for part in ("integers", "scales", "zeros")]
        if table not in done:
            done.add(table)
            values, scales, zeros = _in_blocks(numpy_helper.to_array(tables[table]), bits)
            arrays = (values.astype(integer), scales, zeros.astype(integer))
            graph.initializer.extend(map(numpy_helper.from_array, arrays, names))
        inputs = [names[0], indices, *names[1:]]
        node.CopyFrom(
            helper.make_node(
                "GatherBlockQuantized",
                inputs,
                node.output,
                node.name,
                domain="com.microsoft",
                **settings,
            )
        )


def _in_blocks(
    table: NDArray[np.float32], bits: int
) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.uint8]]:
    """Return a table in integers, and how they are read.

    Args:
        table: (rows, width).
        bits: of an integer.

    Returns:
        Integers (rows, width), scales (rows, blocks), and integers that stand for zero (rows,
        blocks).
    """
    rows, width = table.shape
    block = _BLOCKS[bits]
    blocks = -(-width // block)
    padded = np.zeros((rows, blocks * block), np.float32)
    padded[:, :width] = table
    parts = padded.reshape(rows, blocks, block)
    low = np.minimum(parts.min(2), 0)
    high = np.maximum(parts.max(2), 0)
    largest = 2**bits - 1
    scales = (high - low) / largest
    # A block of zeros has any scale.
    scales[scales == 0] = 1.0
    zeros = np.rint(-low / scales)
    integers = np.rint(parts / scales[:, :, None]) + zeros[:, :, None]
    values = integers.clip(0, largest).astype(np.uint8)
    return values.reshape(rows, -1)[:, :width], scales, zeros.astype(np.uint8)


def _with_quantized_products(model: Any, chosen: Collection[str], bits: int) -> Any:
    """Return a model whose chosen products have a matrix of integers."""
    quantizers = _block_quantizers()
    config = quantizers.DefaultWeightOnlyQuantConfig(
        block_size=_BLOCKS[bits],
        # 8 bits are exact enough without a zero point.
        is_symmetric=bits == 8,
        accuracy_level=_INT8_PRODUCTS,
        bits=bits,
    )
    others = [node.name for node in model.graph.node if node.name not in chosen]
    quantizer = quantizers.MatMulNBitsQuantizer(model, nodes_to_exclude=others, algo_config=config)
    quantizer.process()
    quantizer.model.clean_initializers()
    return quantizer.model.model


def _block_quantizers() -> Any:
    """Return ONNX Runtime's module, whose import would make the root logger print."""
    root = logging.getLogger()
    handlers = list(root.handlers)
    level = root.level
    from onnxruntime.quantization import matmul_nbits_quantizer

    root.handlers[:] = handlers
    root.setLevel(level)
    matmul_nbits_quantizer.logger.setLevel(logging.WARNING)
    return matmul_nbits_quantizer
