"""Config of the network over counted n-grams; imports without torch."""

from __future__ import annotations

from pydantic import Field

from components.core.params import Strict
from components.models.textcnn.config import TextCNNConfig


class CountedConfig(Strict):
    """The n-grams that are counted, and the network that is joined to them."""

    n: int = Field(4, ge=1, le=8, description="Tokens of the longest n-gram.")
    ends: int = Field(
        16,
        ge=0,
        description="Tokens at either end whose n-grams, up to 3, also count apart (0: none).",
    )
    min_documents: int = Field(
        2, ge=1, description="Fewest train rows in which an n-gram must occur."
    )
    rows: int = Field(
        300_000,
        ge=1,
        le=100_000_000,
        description="Rows of the table: the most frequent n-grams are kept.",
    )
    dropout: float = Field(0.0, ge=0, lt=1, description="Share of a row's n-grams that is dropped.")
    textcnn: TextCNNConfig | None = Field(
        None, description="TextCNN that is joined to the counts (null: none)."
    )
