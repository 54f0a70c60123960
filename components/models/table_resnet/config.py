"""Config of the residual network of tables; imports without torch."""

from __future__ import annotations

from pydantic import Field

from components.models.feature_config import FeatureEmbeddingConfig


class TableResNetConfig(FeatureEmbeddingConfig):
    """Widths of the network."""

    width: int = Field(192, ge=8, le=8192, description="Width between the blocks.")
    blocks: int = Field(3, ge=1, le=32, description="Residual blocks.")
    hidden: list[int] = Field(
        default=[384],
        min_length=1,
        max_length=32,
        description="Hidden units of each block (one number: the same for all).",
    )

    def hidden_units(self) -> list[int]:
        """Return the number of hidden units of each block."""
        if len(self.hidden) == self.blocks:
            return self.hidden
        return [self.hidden[0]] * self.blocks
