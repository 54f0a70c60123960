"""Use an ONNX graph in place of the network that it was exported from."""

from __future__ import annotations

from pathlib import Path

import torch

from components.core.bundles import read_bundle
from components.inference.predictor import GRAPH, load_module, onnx_scorer


class GraphModule(torch.nn.Module):
    """An ONNX graph that is called as a network is, without gradients.

    Args:
        content: bytes of the graph.
    """

    def __init__(self, content: bytes) -> None:
        super().__init__()
        self._score = onnx_scorer(content)

    def forward(self, **inputs: torch.Tensor) -> torch.Tensor:
        """Return the logits (n, d) of named inputs."""
        arrays = {name: value.numpy() for name, value in inputs.items()}
        return torch.from_numpy(self._score("forward", arrays)["logits"])


def load_network(bundle: Path) -> torch.nn.Module:
    """Return the network of a torch or ONNX bundle, in evaluation mode.

    Raises:
        BundleError: the bundle is not valid, or a file cannot be used.
    """
    card, files = read_bundle(bundle)
    if card.runtime == "onnx":
        return GraphModule(files[GRAPH])
    module: torch.nn.Module = load_module(bundle)
    return module
