"""Config of the Transformer encoder; imports without torch."""

from __future__ import annotations

from pydantic import Field, field_validator, model_validator

from components.core.params import Strict


class TransformerConfig(Strict):
    """Widths of the network."""

    width: int = Field(128, ge=8, le=8192, description="Elements of a token's vector.")
    layers: int = Field(2, ge=1, le=96, description="Layers of the encoder.")
    heads: int | list[int] = Field(
        4, description="Attention heads, at least 1; a list gives each layer its own number."
    )
    feedforward: int | list[int] = Field(
        256, description="Hidden units of a layer, at least 1; a list gives each layer its own."
    )
    dropout: float = Field(0.1, ge=0, lt=1, description="Share of each sublayer that is dropped.")
    head_width: int | None = Field(
        None, ge=2, multiple_of=2, description="Elements of one head (null: width / heads)."
    )

    @field_validator("heads", "feedforward")
    @classmethod
    def _check_positive(cls, value: int | list[int]) -> int | list[int]:
        sizes = value if isinstance(value, list) else [value]
        if min(sizes, default=0) < 1:
            raise ValueError("must be at least 1")
        return value

    @model_validator(mode="after")
    def _check_shapes(self) -> TransformerConfig:
        if self.head_width is None and not self._is_divisible():
            raise ValueError(f"width {self.width} must be an even multiple of heads {self.heads}")
        for name, sizes in (("heads", self.heads), ("feedforward", self.feedforward)):
            if isinstance(sizes, list) and len(sizes) != self.layers:
                raise ValueError(
                    f"{name} has {len(sizes)} entries, but there are {self.layers} layers"
                )
        return self

    def _is_divisible(self) -> bool:
        """Return whether the heads divide the width into parts of an even number of elements."""
        if not isinstance(self.heads, int) or self.heads < 1:
            return False
        return self.width % (2 * self.heads) == 0

    @property
    def heads_of(self) -> list[int]:
        """Return the heads of each layer."""
        return self._per_layer(self.heads)

    @property
    def feedforward_of(self) -> list[int]:
        """Return the hidden units of each layer."""
        return self._per_layer(self.feedforward)

    def _per_layer(self, sizes: int | list[int]) -> list[int]:
        if isinstance(sizes, list):
            return list(sizes)
        return [sizes] * self.layers

    @property
    def per_head(self) -> int:
        """Return the elements of one head."""
        return self.head_width or self.width // self.heads_of[0]
