"""Average the weights of a fit over its steps.

Averaged weights often validate better than the last ones (Polyak and Juditsky 1992;
Izmailov et al. 2018, arXiv:1803.05407).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

from components.training.fsdp import parts


class MovingAverage:
    """Exponential moving average of a module's trained parameters. Buffers are not averaged.

    Args:
        module: the network.
        decay: share of the old average that stays at each step. In the first steps it is
            less, (1 + n) / (10 + n), so that the initial weights lose their influence soon.
    """

    def __init__(self, module: torch.nn.Module, decay: float) -> None:
        self._parameters = [p for p in module.parameters() if p.requires_grad]
        self._means = [p.detach().clone() for p in self._parameters]
        self._decay = decay
        self._steps = 0

    @torch.no_grad()
    def update(self) -> None:
        """Add the weights after a step to the average."""
        self._steps += 1
        decay = min(self._decay, (1 + self._steps) / (10 + self._steps))
        means = parts(self._means)
        weights = parts([p.detach() for p in self._parameters])
        torch._foreach_lerp_(means, weights, 1 - decay)

    @contextmanager
    def swapped(self) -> Iterator[None]:
        """Put the average in place of the module's weights until the context ends."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        for parameter, mean in zip(self._parameters, self._means, strict=True):
            weights = parameter.clone()
            parameter.copy_(mean)
            mean.copy_(weights)

    def state(self) -> dict[str, Any]:
        """Return the state as tensors and plain values."""
        return {"means": self._means, "steps": self._steps}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from a state."""
        self._steps = state["steps"]
        for mean, saved in zip(self._means, state["means"], strict=True):
            mean.copy_(saved)
