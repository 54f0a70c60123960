"""Define the ensemble of a task's networks. This imports without torch.

Only compress makes ensembles, so they are no choice of `train.architecture`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial, update_wrapper
from typing import TYPE_CHECKING, Any, cast

from pydantic import BaseModel

from components.core.errors import ParamsError
from components.models.base import PrunableDim, PruningSpec
from components.models.ensemble.config import EnsembleMember, EnsembleNetConfig
from components.tasks import base
from components.tasks.base import Architecture, Encoder, Graph

if TYPE_CHECKING:
    import torch

ENSEMBLE = "ensemble"


def bundle_architectures(task: str) -> Mapping[str, Architecture]:
    """Return the architectures that a bundle can have: those of its task, and the ensemble."""
    return {**base.models(task).architectures, ENSEMBLE: EnsembleArchitecture(task)}


class EnsembleArchitecture:
    """The weighted mean of networks of one task.

    Args:
        task: name of the task.
    """

    Config: type[BaseModel] = EnsembleNetConfig
    # Padded rows are what all members take.
    supports_packing = False

    def __init__(self, task: str) -> None:
        self._task = task

    def build(self, config: BaseModel, encoder: Encoder) -> torch.nn.Module:
        """Return a new ensemble.

        Raises:
            ParamsError: the task does not have the architecture of a member.
            ValidationError: the config of a member is not valid.
        """
        from components.models.ensemble.net import EnsembleNet

        members = cast(EnsembleNetConfig, config).members
        architectures = [self._architecture(member) for member in members]
        networks = []
        for member, architecture in zip(members, architectures, strict=True):
            member_config = architecture.Config.model_validate(member.config)
            networks.append(architecture.build(member_config, encoder))
        weights = [member.weight for member in members]
        ensemble = EnsembleNet(networks, weights, base.learning(self._task).mean_output)
        ensemble.architectures = architectures
        return ensemble

    def graphs(self, module: torch.nn.Module) -> Mapping[str, Graph]:
        """Return the graph from the inputs of each member to the mean output."""
        from components.models.ensemble.net import EnsembleNet

        ensemble = cast(EnsembleNet, module)
        graphs = []
        for member, architecture in zip(ensemble.members, ensemble.architectures, strict=True):
            graphs.append(architecture.graphs(member)["forward"])
        networks = [graph.module for graph in graphs]
        combined: Any = EnsembleNet(networks, ensemble.weights.tolist(), ensemble.mean_output)
        # Exporters read the names of the inputs from the signature.
        combined.forward = update_wrapper(partial(combined.forward), networks[0].forward)
        return {"forward": replace(graphs[0], module=combined)}

    def pruning_spec(self) -> PruningSpec:
        """Return the pruning of nothing: a cut ensemble could not be fitted."""
        return _NoPruning()

    def _architecture(self, member: EnsembleMember) -> Architecture:
        """Return the architecture of a member, which is no ensemble itself.

        Raises:
            ParamsError: the task does not have it.
        """
        architectures = base.models(self._task).architectures
        if member.architecture not in architectures:
            names = ", ".join(architectures)
            raise ParamsError(
                f"has a member of architecture {member.architecture[:40]!r}, "
                f"which is not one of {names}"
            )
        return architectures[member.architecture]


class _NoPruning:
    def dims(self, module: torch.nn.Module) -> Sequence[PrunableDim]:  # noqa: ARG002
        """Return no dimension."""
        return []

    def resize(self, config: Any, widths: Mapping[str, int]) -> Any:  # noqa: ARG002
        """Return the config unchanged."""
        return config
