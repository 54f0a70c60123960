"""Count the parameters of a bundle from its files, without building the model."""

from __future__ import annotations

import json
import math
from pathlib import Path

from components.core.bundles import read_bundle


def count_parameters(folder: Path) -> int:
    """Return the number of learned numbers in the weights of a bundle.

    Of an ONNX graph these are its initializers, without integers of 64 bits, which are shapes and
    positions. A baseline has arrays, all of which count.

    Raises:
        BundleError: the bundle is not valid.
    """
    _, files = read_bundle(folder)
    total = 0
    for name, content in files.items():
        if name.startswith("encoder/"):
            continue
        if name.endswith(".safetensors"):
            total += _count_tensors(content)
        elif name.endswith(".onnx"):
            total += _count_initializers(content)
    return total


def _count_tensors(content: bytes) -> int:
    """Return the elements of all tensors of a safetensors file, by its header."""
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    header.pop("__metadata__", None)
    return sum(math.prod(tensor["shape"]) for tensor in header.values())


def _count_initializers(content: bytes) -> int:
    """Return the elements of all initializers of an ONNX graph that are no 64-bit integers."""
    import onnx

    graph = onnx.load_model_from_string(content).graph
    total = 0
    for tensor in graph.initializer:
        if tensor.data_type != onnx.TensorProto.INT64:
            total += math.prod(tensor.dims)
    return total
