"""Params that all classification tasks share. Imports without torch."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from components.core.params import Strict


class LossParams(Strict):
    """Params of the network's loss, in the section `train`."""

    label_smoothing: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="Share of the target that is spread over all classes.",
    )
    focal_gamma: float = Field(
        0.0,
        ge=0,
        le=10,
        description="Focal loss: larger values look less at easy rows (0: cross-entropy).",
    )
    class_weights: Literal["none", "balanced"] = Field(
        "none", description="Weights of the classes in the network's loss."
    )
