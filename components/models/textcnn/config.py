"""Config of TextCNN; imports without torch."""

from __future__ import annotations

from pydantic import Field, field_validator, model_validator

from components.core.params import Strict


class TextCNNConfig(Strict):
    """Widths of the network."""

    width: int = Field(128, ge=4, le=4096, description="Elements of an embedding.")
    channels: int | list[int] = Field(
        128, description="Filters of each kernel, at least 1; a list gives each kernel its own."
    )
    kernels: list[int] = Field(
        [1, 2, 3, 4], description="Sizes of the kernels in tokens, each from 1 to 15."
    )
    dropout: float = Field(
        0.5, ge=0, lt=1, description="Share of the pooled features that is dropped."
    )

    @field_validator("channels")
    @classmethod
    def _check_positive(cls, value: int | list[int]) -> int | list[int]:
        sizes = value if isinstance(value, list) else [value]
        if min(sizes, default=0) < 1:
            raise ValueError("must be at least 1")
        return value

    @field_validator("kernels")
    @classmethod
    def _check_kernels(cls, value: list[int]) -> list[int]:
        if not value or any(not 1 <= kernel <= 15 for kernel in value):
            raise ValueError("kernel sizes must be 1 to 15, at least one")
        return value

    @model_validator(mode="after")
    def _check_channels(self) -> TextCNNConfig:
        if isinstance(self.channels, list) and len(self.channels) != len(self.kernels):
            raise ValueError(
                f"channels has {len(self.channels)} numbers of filters for {len(self.kernels)} "
                "kernels; give one for each, or one number for all"
            )
        return self

    @property
    def filters(self) -> list[int]:
        """Return the filters of each kernel size."""
        if isinstance(self.channels, list):
            return list(self.channels)
        return [self.channels] * len(self.kernels)
