"""Params of the registry."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from components.core.params import Strict
from components.registry.release.gates import GateParams


class RegistryParams(Strict):
    """Release of a winner: gates, and who decides."""

    mode: Literal["auto", "review"] = Field(
        "auto", description="Release of winners (auto: only borderline ones wait for a person)."
    )
    gates: GateParams = Field(
        GateParams(), description="Limits that a winner must keep before it may be released."
    )
