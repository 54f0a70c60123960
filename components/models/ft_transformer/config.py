"""Config of the feature tokenizer and Transformer; imports without torch."""

from __future__ import annotations

from pydantic import Field, model_validator

from components.core.params import Strict


class FTTransformerConfig(Strict):
    """Widths of the network."""

    width: int = Field(64, ge=8, le=2048, description="Width of the token of a feature.")
    layers: int = Field(3, ge=1, le=24, description="Transformer layers.")
    heads: int = Field(4, ge=1, le=64, description="Attention heads of a layer.")
    hidden: list[int] = Field(
        default=[128],
        min_length=1,
        max_length=24,
        description="Hidden units of each layer (one number: the same for all).",
    )
    dropout: float = Field(
        0.1, ge=0, lt=1, description="Share of the hidden units that is dropped."
    )

    @model_validator(mode="after")
    def _check_heads(self) -> FTTransformerConfig:
        if self.width % self.heads:
            raise ValueError(f"width {self.width} must be a multiple of heads {self.heads}")
        return self

    def hidden_units(self) -> list[int]:
        """Return the number of hidden units of each layer."""
        if len(self.hidden) == self.layers:
            return self.hidden
        return [self.hidden[0]] * self.layers
