"""Config of the convolutional network; imports without torch."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator, model_validator

from components.core.params import Strict


class ConvNetConfig(Strict):
    """Widths of the network."""

    channels: list[int] = Field(
        default=[32, 64], min_length=1, max_length=8
    )  # of each block; each but the last halves the picture
    depths: list[int] = Field(
        default=[], max_length=8
    )  # convolutions of each block; empty: one each
    pooling: Literal["none", "average"] = "none"  # of the last block over its positions
    hidden: int = Field(64, ge=0, le=8192)  # 0: no hidden layer before the output
    dropout: float = Field(0.2, ge=0, lt=1)

    @field_validator("channels", "depths")
    @classmethod
    def _some(cls, value: list[int]) -> list[int]:
        if value and min(value) < 1:
            raise ValueError("must be at least 1")
        return value

    @model_validator(mode="after")
    def _equal_lengths(self) -> ConvNetConfig:
        if self.depths and len(self.depths) != len(self.channels):
            blocks, depths = len(self.channels), len(self.depths)
            raise ValueError(
                f"channels names {blocks} block(s), depths {depths}: both need one number a block"
            )
        return self

    def convolutions(self) -> list[int]:
        """Return the number of convolutions of each block."""
        return self.depths or [1] * len(self.channels)
