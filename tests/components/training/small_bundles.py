"""Small good bundles of each runtime, made without a fit of a network, and how to alter them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from components.core.bundles import CARD, Card, write_bundle
from components.core.files import to_json
from components.inference.predictor import ARRAYS, GRAPH, WEIGHTS
from components.tasks import base

TEXT = "text_classification"
CLASSES = ["差评", "好评"]
WORDS = ["酒店很好", "房间太差", "the hotel was lovely", "noisy and dirty rooms"]
QUERY = json.dumps({"text": "酒店 hotel lovely"})
TINY = {"width": 8, "channels": 4, "kernels": [1, 2], "dropout": 0.1}


def card(runtime: Any, architecture: str, config: dict[str, Any], task: str = TEXT) -> Card:
    return Card(
        task,
        runtime,
        architecture,
        config,
        {"classes": CLASSES},
        7,
        "ab" * 32,
        "cd" * 32,
        ["train"],
    )


def text_encoder() -> Any:
    """A vocabulary of a few words."""
    rows = pa.table({"text": WORDS}).to_batches()
    facet = base.encoding(TEXT)
    clean = base.schema(TEXT).options["clean"].model_validate({})
    told = {"vocabulary_size": 60, "min_frequency": 1, "max_length": 16}
    return facet.fit(
        iter(rows), {"classes": CLASSES}, facet.options["tokenize"].model_validate(told), clean
    )


def encoder_files() -> dict[str, bytes]:
    """The encoder as it stands in a bundle."""
    return {f"encoder/{name}": content for name, content in text_encoder().files().items()}


def torch_bundle(folder: Path, architecture: str = "textcnn", config: Any = TINY) -> Path:
    """A network with the weights that it was drawn with."""
    import torch

    torch.manual_seed(7)
    net = base.models(TEXT).architectures[architecture]
    module = net.build(net.Config.model_validate(config), text_encoder())
    files = {WEIGHTS: weights_of(module), **encoder_files()}
    write_bundle(folder, card("torch", architecture, config), files)
    return folder


def weights_of(module: Any) -> bytes:
    """The weights of a network as safetensors."""
    from safetensors.torch import save

    return bytes(save({name: value.contiguous() for name, value in module.state_dict().items()}))


def graph(body: Any = None, **changes: Any) -> bytes:
    """ONNX from ids and mask (n, t) to logits (n, 2): the sum of a row's embeddings.

    Args:
        body: nodes behind which "sums" (n, 2) becomes "logits"; None: as it is.
        changes: of the model's fields.
    """
    from onnx import TensorProto, helper, numpy_helper

    table = np.random.default_rng(7).normal(size=(80, 2)).astype(np.float32)
    initializers = [
        numpy_helper.from_array(table, "table"),
        numpy_helper.from_array(np.array([2]), "last"),
        numpy_helper.from_array(np.array([1]), "axis"),
    ]
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["vectors"]),
        helper.make_node("Unsqueeze", ["mask", "last"], ["weights"]),
        helper.make_node("Mul", ["vectors", "weights"], ["weighed"]),
        helper.make_node("ReduceSum", ["weighed", "axis"], ["sums"], keepdims=0),
        *(body or [helper.make_node("Identity", ["sums"], ["logits"])]),
    ]
    rows = ["n", "t"]
    made = helper.make_graph(
        nodes,
        "forward",
        [
            helper.make_tensor_value_info("ids", TensorProto.INT64, rows),
            helper.make_tensor_value_info("mask", TensorProto.FLOAT, rows),
        ],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, None)],
        initializers,
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    for name, value in changes.items():
        setattr(model, name, value)
    return bytes(model.SerializeToString())


def onnx_bundle(folder: Path) -> Path:
    """A network in ONNX."""
    files = {GRAPH: graph(), **encoder_files()}
    write_bundle(folder, card("onnx", "textcnn", TINY), files)
    return folder


def numpy_bundle(folder: Path, name: str = "classical") -> Path:
    """A baseline fitted on four texts."""
    from safetensors.numpy import save

    facet = base.baselines(TEXT)
    rows = pa.table({"text": WORDS, "title": [""] * 4, "label": [*CLASSES[::-1], *CLASSES[::-1]]})
    arrays, files = facet.baselines[name].fit(
        rows,
        {"classes": CLASSES},
        facet.options["train"].model_validate({}),
        base.schema(TEXT).options["clean"].model_validate({}),
        7,
    )
    named = {f"encoder/{key}": content for key, content in files.items()}
    write_bundle(folder, card("numpy", name, {}), {ARRAYS: save(dict(arrays)), **named})
    return folder


def edit_card(folder: Path, **changes: Any) -> None:
    """Change fields of the card; the value `...` removes one."""
    facts = json.loads((folder / CARD).read_text(encoding="utf-8")) | changes
    facts = {key: value for key, value in facts.items() if value is not ...}
    (folder / CARD).write_text(json.dumps(facts), encoding="utf-8")


def exchange(folder: Path, name: str, content: bytes) -> None:
    """Change a file, and the card with it: the bundle agrees with itself."""
    facts = json.loads((folder / CARD).read_text(encoding="utf-8"))
    facts["files"][name] = hashlib.sha256(content).hexdigest()
    facts["sizes"][name] = len(content)
    (folder / name).write_bytes(content)
    (folder / CARD).write_text(to_json(facts), encoding="utf-8")


def drop_sizes(folder: Path) -> None:
    """Make it a bundle from before sizes."""
    edit_card(folder, sizes=...)
