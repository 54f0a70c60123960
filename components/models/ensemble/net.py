"""Answer by the weighted mean of several networks (Lakshminarayanan et al. 2017, deep ensembles).

arXiv:1612.01474. What the mean of outputs is, a task says.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from torch import nn

from components.models.input_layers import HasInputLayers, InputLayer

# Outputs (m, n, d) of m networks and their weights (m,), which sum up to 1 -> (n, d).
MeanOutput = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


class EnsembleNet(nn.Module):
    """Networks with the same inputs, whose outputs become one.

    Args:
        members: the networks.
        weights: positive weight of each of them, of any sum.
        mean_output: computes the weighted mean of their outputs.

    Attributes:
        architectures: of the members, for whoever has built them by one.
    """

    weights: torch.Tensor
    architectures: Sequence[Any] = ()

    def __init__(
        self, members: Sequence[nn.Module], weights: Sequence[float], mean_output: MeanOutput
    ) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self.mean_output = mean_output
        shares = torch.tensor(weights, dtype=torch.float64)
        # The card of a bundle has the weights.
        self.register_buffer("weights", (shares / shares.sum()).float(), persistent=False)

    def forward(self, **inputs: torch.Tensor) -> torch.Tensor:
        """Return the mean output (n, d) of the inputs that each member takes."""
        outputs = torch.stack([member(**inputs) for member in self.members])
        return self.mean_output(outputs, self.weights)

    def input_layers(self) -> Sequence[InputLayer]:
        """Return the input layers of all members."""
        layers: list[InputLayer] = []
        for member in self.members:
            layers.extend(cast(HasInputLayers, member).input_layers())
        return layers
