"""The knobs of the registry."""

from __future__ import annotations

from typing import Literal

from components.core.params import Strict
from components.registry.release.gates import GateParams


class RegistryParams(Strict):
    """Section `registry` of params.yaml."""

    mode: Literal["auto", "review"] = (
        "auto"  # a winner that passes its gates is released | waits for a person
    )
    gates: GateParams = GateParams()
