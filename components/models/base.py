"""What a net says about its own structure, so that it can be cut without knowing what it is for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class PrunableDim:
    """A width that may be cut, and every place that must be cut with it."""

    name: str  # e.g. "layers.1.heads"
    size: int  # units, e.g. 4 heads
    slices: Sequence[
        tuple[str, int, int, int]
    ]  # (parameter name, axis, first element, elements per unit)
    minimum: int = 1


class PruningSpec(Protocol):
    """One per network class, beside it. Scoring and selecting are generic; only the coupling is known here."""

    def dims(self, module: torch.nn.Module) -> Sequence[PrunableDim]:
        """The widths that may be cut."""

    def resize(self, config: Any, widths: Mapping[str, int]) -> Any:
        """The config that builds the cut network; `widths`: name of a Dim -> units that stay."""


@runtime_checkable
class AdapterModel(Protocol):
    """What a net says of its weights when they do not all learn alike, or are not kept as they learn. The engine asks; most nets do not say."""

    def adapt(self) -> None:
        """Freeze and add parameters for a fit, once the weights to start from are there."""

    def rates(self) -> Mapping[str, float]:
        """Parameter name -> factor of the learning rate."""

    def kept(self) -> Mapping[str, torch.Tensor]:
        """The state that a net built anew is loaded with."""
