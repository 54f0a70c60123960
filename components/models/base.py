"""Define what a network states about its own structure.

With it a network can be pruned and fitted without knowledge of the task.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    import torch
    from torch import nn


@dataclass(frozen=True)
class PrunableDim:
    """A width or depth that can be pruned, and all that is cut with it.

    Args:
        name: e.g. "layers.1.heads".
        size: number of units, e.g. 4 heads.
        slices: (parameter name, axis, first element, elements per unit) of each slice.
        minimum: units that stay at least.
        group: dimensions of one group keep the same number of units. "": it is alone.
        unscored: names of parameters that do not tell what a unit is worth.
        modules: whether it is a depth: its units are the modules `name.0`, `name.1` and so on,
            each of which adds to a residual stream. They are dropped whole, and have no slices.
    """

    name: str
    size: int
    slices: Sequence[tuple[str, int, int, int]]
    minimum: int = 1
    group: str = ""
    unscored: Sequence[str] = ()
    modules: bool = False

    def unit_of(self, name: str) -> int | None:
        """Return the module that has a parameter or a dimension; None: it is in none of them.

        Args:
            name: of the parameter or dimension.
        """
        if not self.modules or not name.startswith(f"{self.name}."):
            return None
        return int(name[len(self.name) + 1 :].partition(".")[0])


class PruningSpec(Protocol):
    """The prunable dimensions of a type of network.

    Scoring and selecting are generic. Only the coupling of dimensions is defined here.
    """

    def dims(self, module: torch.nn.Module) -> Sequence[PrunableDim]:
        """Return the dimensions of a module that can be pruned."""

    def resize(self, config: Any, widths: Mapping[str, int]) -> Any:
        """Return the config that builds the pruned network.

        Args:
            config: of the network before.
            widths: name of a PrunableDim -> units that stay. 0: its module is dropped.
        """


@runtime_checkable
class HasTokenTable(Protocol):
    """A network that looks up an embedding for each token id."""

    def table(self) -> nn.Embedding:
        """Return the embedding of the token ids."""


@runtime_checkable
class HasTokenStates(Protocol):
    """A network that computes a state for each token."""

    def states(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Return states (n, t, width) from ids (n, t) and mask (n, t), 1 where there is a token."""


@runtime_checkable
class AdapterModel(Protocol):
    """A network whose weights have different learning rates, or are saved in another form.

    Most networks do not implement it.
    """

    def adapt(self) -> None:
        """Freeze and add parameters for a fit, once the initial weights are loaded."""

    def rates(self) -> Mapping[str, float]:
        """Return parameter name -> factor of the learning rate."""

    def saved_weights(self) -> Mapping[str, torch.Tensor]:
        """Return the state that is saved. A newly built network loads it."""
