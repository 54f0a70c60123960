"""Params that all regression tasks share. Imports without torch."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from components.core.params import Strict
from components.fields.number import DecimalSign


class NumberParams(Strict):
    """Params of the target, in the section `ingest`."""

    decimal: DecimalSign = Field(
        ".", description="Decimal sign of a target in text (the other of . and , is skipped)."
    )


class NumberClean(Strict):
    """Params of `clean` about the target."""

    conflicts: Literal["keep", "drop"] = Field(
        "keep", description="What happens to equal inputs with different numbers."
    )
    min_rows: int = Field(50, ge=20, description="Fewest usable rows that are learned from.")


class LossParams(Strict):
    """Params of the network's loss, in the section `train`."""

    huber_delta: float | None = Field(
        None,
        gt=0,
        description=(
            "Error, in deviations of the target, above which the loss is linear (null: squared)."
        ),
    )
