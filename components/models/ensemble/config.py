"""Config of an ensemble; imports without torch."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from components.core.params import Strict

# A card comes from outside, and a network is built for each member that it names.
MOST_MEMBERS = 32


class EnsembleMember(Strict):
    """A network of an ensemble."""

    architecture: str = Field(description="Architecture of the network, one of the task's.")
    config: dict[str, Any] = Field(description="Params of the network.")
    weight: float = Field(gt=0, le=1, description="Weight of its outputs in the mean.")


class EnsembleNetConfig(Strict):
    """The networks, the one with the largest weight first."""

    members: list[EnsembleMember] = Field(
        min_length=2, max_length=MOST_MEMBERS, description="Networks that answer together."
    )
