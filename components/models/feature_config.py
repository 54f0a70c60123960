"""Config of the embedding of a table's columns; imports without torch."""

from __future__ import annotations

from pydantic import Field

from components.core.params import Strict


class FeatureEmbeddingConfig(Strict):
    """Widths of the embeddings of numbers and categories."""

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
