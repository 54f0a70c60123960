"""Config of the convolutional network; imports without torch."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator, model_validator

from components.core.params import Strict


class ConvNetConfig(Strict):
    """Widths of the network."""

    channels: list[int] = Field(
        default=[32, 64],
        min_length=1,
        max_length=8,
        description="Channels of each block; each block but the last halves the image.",
    )
    depths: list[int] = Field(
        default=[],
        max_length=8,
        description="Convolutions of each block ([]: one each).",
    )
    pooling: Literal["none", "average"] = Field(
        "none", description="Pooling of the last block over its positions."
    )
    hidden: int = Field(
        64, ge=0, le=8192, description="Units of the hidden layer before the output (0: none)."
    )
    dropout: float = Field(
        0.2, ge=0, lt=1, description="Share of the features before the output that is dropped."
    )

    @field_validator("channels", "depths")
    @classmethod
    def _check_positive(cls, value: list[int]) -> list[int]:
        if value and min(value) < 1:
            raise ValueError("must be at least 1")
        return value

    @model_validator(mode="after")
    def _check_lengths(self) -> ConvNetConfig:
        if self.depths and len(self.depths) != len(self.channels):
            raise ValueError(
                f"channels names {len(self.channels)} block(s), depths {len(self.depths)}: "
                "both need one number a block"
            )
        return self

    def convolutions(self) -> list[int]:
        """Return the number of convolutions of each block."""
        return self.depths or [1] * len(self.channels)
