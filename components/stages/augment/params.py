"""Params of `augment` that hold for every task."""

from __future__ import annotations

from pydantic import Field

from components.core.params import Strict


class AugmentParams(Strict):
    """How many rows are added."""

    rate: float = Field(
        0.1, ge=0, le=10, description="Added train rows per train row (0: no rows are added)."
    )
