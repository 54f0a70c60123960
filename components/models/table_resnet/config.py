"""Config of the residual network of tables; imports without torch."""

from __future__ import annotations

from pydantic import Field

from components.core.params import Strict


class TableResNetConfig(Strict):
    """Widths of the network."""

    width: int = Field(192, ge=8, le=8192, description="Width between the blocks.")
    blocks: int = Field(3, ge=1, le=32, description="Residual blocks.")
    hidden: list[int] = Field(
        default=[384],
        min_length=1,
        max_length=32,
        description="Hidden units of each block (one number: the same for all).",
    )
    category_width: int = Field(
        32, ge=1, le=512, description="Largest width of the embedding of a column of categories."
    )
    number_width: int = Field(
        16,
        ge=0,
        le=512,
        description="Width of the periodic embedding of a number (0: numbers stay as they are).",
    )
    frequencies: int = Field(24, ge=1, le=512, description="Frequencies of a periodic embedding.")
    frequency_deviation: float = Field(
        0.1, gt=0, le=100, description="Deviation of the first frequencies of an embedding."
    )
    dropout: float = Field(
        0.1, ge=0, lt=1, description="Share of the hidden units that is dropped."
    )

    def hidden_units(self) -> list[int]:
        """Return the number of hidden units of each block."""
        if len(self.hidden) == self.blocks:
            return self.hidden
        return [self.hidden[0]] * self.blocks
