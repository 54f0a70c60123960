"""Config of the convolutional network; imports without torch."""

from __future__ import annotations

from pydantic import Field, field_validator

from components.core.params import Strict


class ConvNetConfig(Strict):
    """Widths of the network."""

    channels: list[int] = Field(default=[32, 64], min_length=1, max_length=4)  # of each block; each but the last halves the picture
    hidden: int = Field(64, ge=4, le=8192)
    dropout: float = Field(0.2, ge=0, lt=1)

    @field_validator("channels")
    @classmethod
    def _some(cls, value: list[int]) -> list[int]:
        if min(value) < 1:
            raise ValueError("must be at least 1")
        return value
