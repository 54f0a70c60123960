"""Config of the Transformer encoder; imports without torch."""

from __future__ import annotations

from pydantic import Field, field_validator, model_validator

from components.core.params import Strict


class TransformerConfig(Strict):
    """Widths of the network."""

    width: int = Field(128, ge=8, le=8192)
    layers: int = Field(2, ge=1, le=96)
    heads: int | list[int] = 4  # per layer where it is a list (as pruning leaves them)
    feedforward: int | list[int] = 256
    dropout: float = Field(0.1, ge=0, lt=1)
    head_width: int | None = Field(None, ge=2, multiple_of=2)  # None: width / heads

    @field_validator("heads", "feedforward")
    @classmethod
    def _some(cls, value: int | list[int]) -> int | list[int]:
        if min(value if isinstance(value, list) else [value], default=0) < 1:
            raise ValueError("must be at least 1")
        return value

    @model_validator(mode="after")
    def _divides(self) -> TransformerConfig:
        if self.head_width is None and (
            not isinstance(self.heads, int)
            or self.heads < 1
            or self.width % self.heads
            or self.width // self.heads % 2
        ):
            raise ValueError(f"width {self.width} must be an even multiple of heads {self.heads}")
        for name, given in (("heads", self.heads), ("feedforward", self.feedforward)):
            if isinstance(given, list) and len(given) != self.layers:
                raise ValueError(
                    f"{name} has {len(given)} entries, but there are {self.layers} layers"
                )
        return self

    @property
    def heads_of(self) -> list[int]:
        """Heads of each layer."""
        return list(self.heads) if isinstance(self.heads, list) else [self.heads] * self.layers

    @property
    def feedforward_of(self) -> list[int]:
        """Hidden units of each layer."""
        return (
            list(self.feedforward)
            if isinstance(self.feedforward, list)
            else [self.feedforward] * self.layers
        )

    @property
    def per_head(self) -> int:
        """Elements of one head."""
        return self.head_width or self.width // self.heads_of[0]
