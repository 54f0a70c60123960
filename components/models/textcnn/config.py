"""Config of TextCNN; imports without torch."""

from __future__ import annotations

from pydantic import Field, field_validator, model_validator

from components.core.params import Strict


class TextCNNConfig(Strict):
    """Widths of the network."""

    width: int = Field(128, ge=4, le=4096)
    channels: int | list[int] = (
        128  # filters per kernel size; a list gives each kernel its own (as pruning leaves them)
    )
    kernels: list[int] = [1, 2, 3, 4]
    dropout: float = Field(0.5, ge=0, lt=1)

    @field_validator("channels")
    @classmethod
    def _some(cls, value: int | list[int]) -> int | list[int]:
        if min(value if isinstance(value, list) else [value], default=0) < 1:
            raise ValueError("must be at least 1")
        return value

    @field_validator("kernels")
    @classmethod
    def _kernels(cls, value: list[int]) -> list[int]:
        if not value or any(not 1 <= kernel <= 15 for kernel in value):
            raise ValueError("kernel sizes must be 1 to 15, at least one")
        return value

    @model_validator(mode="after")
    def _pair(self) -> TextCNNConfig:
        if isinstance(self.channels, list) and len(self.channels) != len(self.kernels):
            raise ValueError(
                f"channels has {len(self.channels)} numbers of filters for {len(self.kernels)} kernels; give one for each, or one number for all"
            )
        return self

    @property
    def filters(self) -> list[int]:
        """Filters of each kernel size."""
        return (
            list(self.channels)
            if isinstance(self.channels, list)
            else [self.channels] * len(self.kernels)
        )
