"""Write the weights of a champion in the formats of other runtimes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from components.core.errors import EnvironmentFault, InputError

if TYPE_CHECKING:
    from components.core.cards import Card
    from components.tasks.base import Graph


@dataclass(frozen=True)
class WeightFormat:
    """A format of weights, and how a script reads it.

    Args:
        file: name of the file with the weights.
        requirements: packages that read it.
        imports: line of Python.
        code: defines `logits_of(inputs)`.
    """

    file: str
    requirements: Sequence[str]
    imports: str = ""
    code: str = ""


_TORCH_CODE = """

def logits_of(inputs):
    with torch.inference_mode():
        tensors = {name: torch.from_numpy(value) for name, value in inputs.items()}
        return MODEL(**tensors).numpy()
"""
FORMATS: Mapping[str, WeightFormat] = {
    "onnx": WeightFormat(
        "model.onnx",
        ("onnxruntime",),
        "import onnxruntime",
        """\
# On a CPU the fused operator takes longer than the two that it replaces.
OPTIONS = {"disabled_optimizers": ["SkipLayerNormFusion"], "providers": ["CPUExecutionProvider"]}
SESSION = onnxruntime.InferenceSession(HERE / "model.onnx", **OPTIONS)
NAMES = [entry.name for entry in SESSION.get_inputs()]


def logits_of(inputs):
    return SESSION.run(["logits"], {name: inputs[name] for name in NAMES})[0]
""",
    ),
    "torchscript": WeightFormat(
        "model.pt",
        ("torch",),
        "import torch",
        'MODEL = torch.jit.load(HERE / "model.pt")\n' + _TORCH_CODE,
    ),
    "torch-export": WeightFormat(
        "model.pt2",
        ("torch",),
        "import torch",
        'MODEL = torch.export.load(HERE / "model.pt2").module()\n' + _TORCH_CODE,
    ),
    "openvino": WeightFormat(
        "model.xml",
        ("openvino",),
        "import openvino",
        """\
EXACT = {"INFERENCE_PRECISION_HINT": "f32"}
MODEL = openvino.Core().compile_model(HERE / "model.xml", "CPU", EXACT)
NAMES = [entry.any_name for entry in MODEL.inputs]


def logits_of(inputs):
    return MODEL({name: inputs[name] for name in NAMES})["logits"]
""",
    ),
    "safetensors": WeightFormat("weights.safetensors", ("gristmill",)),
}
# Runtime of a champion -> the formats that it can have.
_POSSIBLE: Mapping[str, Sequence[str]] = {
    "torch": tuple(FORMATS),
    "onnx": ("onnx", "openvino"),
    "numpy": ("safetensors",),
}
_KINDS: Mapping[str, str] = {
    "torch": "a network",
    "onnx": "an int8 network, which exists as ONNX alone",
    "numpy": "a baseline, which is no network",
}


def check_format(card: Card, name: str) -> None:
    """Refuse a format that a champion cannot have, and one whose library is missing.

    Raises:
        InputError: there is no such format, or the champion cannot have it.
        EnvironmentFault: a library is missing.
    """
    if name not in FORMATS:
        raise InputError(
            f"there is no format {name!r}; there are {', '.join(FORMATS)}",
            where="--format",
            remedy="gristmill export --help",
        )
    possible = _POSSIBLE[card.runtime]
    if name not in possible:
        raise InputError(
            f"{card.title} cannot become {name}: it is {_KINDS[card.runtime]}",
            where="--format",
            remedy=f"take a format that it can have: {', '.join(possible)}",
        )
    if name == "openvino" and find_spec("openvino") is None:
        raise EnvironmentFault(
            "openvino is not installed here",
            where="--format",
            remedy="pip install -c constraints.txt -e '.[openvino]'",
        )


def write_weights(
    name: str, graph: Graph | bytes, example: Mapping[str, NDArray[Any]], folder: Path
) -> None:
    """Write the weights of a network into a folder.

    Args:
        name: onnx, torchscript, torch-export or openvino.
        graph: torch graph, or the bytes of an ONNX model for onnx and openvino.
        example: inputs of two rows of different lengths.
        folder: that exists.
    """
    from components.stages.compress.quantize import export, quiet_exporters

    path = folder / FORMATS[name].file
    # Sizes that became constants are found by the test cases, which have several lengths.
    with quiet_exporters():
        if isinstance(graph, bytes):
            content = graph
        elif name == "torchscript":
            _write_torchscript(graph, example, path)
            return
        elif name == "torch-export":
            _write_torch_export(graph, example, path)
            return
        else:
            content = export(graph, dict(example))
        if name == "onnx":
            path.write_bytes(content)
        else:
            _write_openvino(content, path)


def _write_openvino(content: bytes, path: Path) -> None:
    import openvino

    model = openvino.Core().read_model(content)
    # By default weights become float16.
    openvino.save_model(model, path, compress_to_fp16=False)


def _tensors(graph: Graph, example: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
    import torch

    return {name: torch.from_numpy(np.ascontiguousarray(example[name])) for name in graph.inputs}


def _write_torchscript(graph: Graph, example: Mapping[str, NDArray[Any]], path: Path) -> None:
    import torch

    tensors = _tensors(graph, example)
    trace: Any = torch.jit.trace
    traced = trace(graph.module.eval(), example_kwarg_inputs=tensors)
    torch.jit.save(traced, str(path))


def _write_torch_export(graph: Graph, example: Mapping[str, NDArray[Any]], path: Path) -> None:
    """Write a network as torch.export does.

    Raises:
        InputError: the number of tokens becomes a constant, as in networks that compute one token
            after another.
    """
    import torch
    from torch.fx.experimental import _config

    dynamic = torch.export.Dim.DYNAMIC
    axes: dict[str, dict[int, Any]] = {}
    for name, shape in graph.inputs.items():
        axes[name] = {axis: dynamic for axis, size in enumerate(shape) if isinstance(size, str)}
    inputs = _tensors(graph, example)
    try:
        # As torch's own ONNX exporter: else a row of one or two tokens is refused by a guard.
        with _config.patch(backed_size_oblivious=True):
            program = torch.export.export(
                graph.module.eval(), (), kwargs=inputs, dynamic_shapes=axes
            )
    except torch._dynamo.exc.UserError:
        raise InputError(
            "this network cannot become torch-export: its length would be a constant",
            where="--format",
            remedy="take another format: onnx, torchscript, safetensors",
        ) from None
    torch.export.save(program, path)
