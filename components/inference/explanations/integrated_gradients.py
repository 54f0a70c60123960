"""Trace the outputs of a network back to its inputs (Sundararajan et al. 2017, arXiv:1703.01365).

The path leads from zeros to what the input layers hold. Contributions are complete: they sum up
to the change of the score along the path, up to the error of the integral.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from components.inference.explanations.methods import TOLERANCE
from components.models.input_layers import InputLayer

# Points of the path. Rows whose error is larger get three times as many, up to the bound.
_FIRST_POINTS = 16
_MOST_POINTS = 1296
# A change below this share of the mean change counts as that much: its relative error says little.
_LEAST_CHANGE = 0.1
# Rows that a network answers at once.
_BATCH = 64

Tensors = Mapping[str, torch.Tensor]


@dataclass(frozen=True)
class Attribution:
    """The contributions of the elements of rows.

    Args:
        contributions: (n, ...) of the elements.
        errors: (n,) of completeness, as shares of the change of the score.
        points: most points of the path at which the gradient was computed.
    """

    contributions: NDArray[np.float64]
    errors: NDArray[np.float64]
    points: int


class _Path:
    """Hooks that scale what input layers hold, and keep the scaled tensors for their gradient.

    Args:
        module: the network.
        directions: (n, d) weights of the outputs in the score of each row.
    """

    def __init__(self, module: Any, directions: torch.Tensor) -> None:
        self.layers: Sequence[InputLayer] = module.input_layers()
        self.values: list[torch.Tensor] = [torch.zeros(0)] * len(self.layers)
        self._module = module
        self._directions = directions
        self._scale = torch.ones(1)
        self._scaled: list[torch.Tensor] = [torch.zeros(0)] * len(self.layers)
        self._handles: list[Any] = []
        for number, layer in enumerate(self.layers):
            if layer.before:
                handle = layer.module.register_forward_pre_hook(self._before(number))
            else:
                handle = layer.module.register_forward_hook(self._after(number))
            self._handles.append(handle)

    def close(self) -> None:
        """Remove the hooks."""
        for handle in self._handles:
            handle.remove()

    def _point(self, number: int, value: torch.Tensor) -> torch.Tensor:
        """Return what a layer holds at the points of the path."""
        self.values[number] = value.detach()
        scale = self._scale.view(-1, *[1] * (value.ndim - 1))
        self._scaled[number] = (value.detach() * scale).requires_grad_()
        return self._scaled[number]

    def _before(self, number: int) -> Any:
        return lambda _, values: self._point(number, values[0])

    def _after(self, number: int) -> Any:
        return lambda *call: self._point(number, call[-1])

    def scores(self, batch: Tensors, rows: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
        """Return the scores (m,) of rows at points of the path.

        Args:
            batch: m rows.
            rows: (m,) their numbers.
            scale: (m,) points from 0 to 1, or (1,) one of all rows.
        """
        self._scale = scale
        outputs: torch.Tensor = self._module(**batch)
        return (outputs * self._directions[rows]).sum(1)

    def gradients(
        self, batch: Tensors, rows: torch.Tensor, points: torch.Tensor
    ) -> list[torch.Tensor]:
        """Return the sum over points of the gradient at each input layer, (m, ...).

        Args:
            batch: m rows.
            rows: (m,) their numbers.
            points: (p,) of the path. Their squares are the scales: near zero, where layers are
                normalized, the gradient changes most.
        """
        sums: list[torch.Tensor] = []
        at_once = max(1, _BATCH // len(rows))
        for some in torch.split(points, at_once):
            repeated = {
                name: value.repeat_interleave(len(some), 0) for name, value in batch.items()
            }
            scale = some.repeat(len(rows))
            scores = self.scores(repeated, rows.repeat_interleave(len(some)), scale**2)
            # The derivative of the square weighs each point.
            gradients = torch.autograd.grad((2 * scale * scores).sum(), self._scaled)
            parts = [
                gradient.view(len(rows), len(some), *gradient.shape[1:]).sum(1)
                for gradient in gradients
            ]
            if not sums:
                sums = parts
            else:
                sums = [total + part for total, part in zip(sums, parts, strict=True)]
        return sums


def integrated_gradients(
    module: Any, batch: Mapping[str, NDArray[Any]], directions: NDArray[np.float64]
) -> Attribution:
    """Return what the elements of rows contribute to a score.

    Args:
        module: a network that is a `HasInputLayers`.
        batch: n rows, as the network takes them.
        directions: (n, d) weights of the outputs in the score of each row.
    """
    tensors = {name: torch.from_numpy(np.ascontiguousarray(batch[name])) for name in batch}
    weights = torch.from_numpy(directions).float()
    results = []
    for start in range(0, len(weights), _BATCH):
        rows = slice(start, start + _BATCH)
        part = {name: value[rows] for name, value in tensors.items()}
        path = _Path(module, weights[rows])
        try:
            results.append(_attributed(path, part, len(weights[rows])))
        finally:
            path.close()
    return Attribution(
        np.concatenate([result.contributions for result in results]),
        np.concatenate([result.errors for result in results]),
        max(result.points for result in results),
    )


def _attributed(path: _Path, batch: Tensors, count: int) -> Attribution:
    """Return the contributions of one batch, by the midpoint rule.

    The midpoints of a path are among those of three times as many, so that none is lost.

    Args:
        path: through the network.
        batch: rows.
        count: number of the rows.
    """
    everything = torch.arange(count)
    ends = [path.scores(batch, everything, torch.full((1,), end)).detach() for end in (0.0, 1.0)]
    changes = ends[1] - ends[0]
    values = list(path.values)
    size = changes.abs().clamp(min=_LEAST_CHANGE * float(changes.abs().mean()) + 1e-9)

    points = _FIRST_POINTS
    sums = path.gradients(batch, everything, (torch.arange(points) + 0.5) / points)
    used = torch.full((count,), points)
    while True:
        contributions = [
            value * total / used.view(-1, *[1] * (total.ndim - 1))
            for value, total in zip(values, sums, strict=True)
        ]
        total_changes = torch.stack([part.flatten(1).sum(1) for part in contributions]).sum(0)
        errors = (total_changes - changes).abs() / size
        rows = torch.nonzero(errors > TOLERANCE).flatten()
        if points >= _MOST_POINTS or not len(rows):
            break
        points *= 3
        numbers = torch.arange(points)
        new_points = (numbers[numbers % 3 != 1] + 0.5) / points
        part = {name: value[rows] for name, value in batch.items()}
        more = path.gradients(part, rows, new_points)
        for total, addition in zip(sums, more, strict=True):
            total[rows] += addition
        used[rows] = points
    elements = [
        layer.spread(batch, part) for layer, part in zip(path.layers, contributions, strict=True)
    ]
    summed = torch.stack(elements).sum(0)
    return Attribution(summed.double().numpy(), errors.double().numpy(), points)
