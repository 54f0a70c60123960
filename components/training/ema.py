"""A moving average of the weights: often judged better than the last ones (Polyak and Juditsky 1992; Izmailov et al. 2018, arXiv:1803.05407)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

from components.training.fsdp import parts


class MovingAverage:
    """Exponential moving average of a module's parameters; buffers are the module's own.

    Args:
        decay: share of the old average that stays at each step; less in the first steps, as (1 + n) / (10 + n), so that the start is soon forgotten.
    """

    def __init__(self, module: torch.nn.Module, decay: float) -> None:
        self._parameters = [p for p in module.parameters() if p.requires_grad]
        self._means = [p.detach().clone() for p in self._parameters]
        self._decay, self._steps = decay, 0

    @torch.no_grad()
    def update(self) -> None:
        """Take the weights of a step in."""
        self._steps += 1
        decay = min(self._decay, (1 + self._steps) / (10 + self._steps))
        torch._foreach_lerp_(
            parts(self._means), parts([p.detach() for p in self._parameters]), 1 - decay
        )

    @contextmanager
    def swapped(self) -> Iterator[None]:
        """The module has the average for its weights meanwhile."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        for parameter, mean in zip(self._parameters, self._means, strict=True):
            kept = parameter.clone()
            parameter.copy_(mean)
            mean.copy_(kept)

    def state(self) -> dict[str, Any]:
        """Tensors and plain values."""
        return {"means": self._means, "steps": self._steps}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from `state`."""
        self._steps = state["steps"]
        for mean, kept in zip(self._means, state["means"], strict=True):
            mean.copy_(kept)
