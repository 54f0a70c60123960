"""Params that all regression tasks share. Imports without torch."""

from __future__ import annotations

from pydantic import Field

from components.core.params import Strict


class NumberLossParams(Strict):
    """Params of the network's loss, in the section `train`."""

    huber_delta: float | None = Field(
        None,
        gt=0,
        description=(
            "Error, in deviations of the target, above which the loss is linear (null: squared)."
        ),
    )
