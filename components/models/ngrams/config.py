"""Config of the bag of n-grams; imports without torch."""

from __future__ import annotations

from pydantic import Field

from components.core.params import Strict


class NgramsConfig(Strict):
    """Widths of the network."""

    n: int = Field(2, ge=1, le=8, description="Tokens of the longest n-gram (1: a bag of tokens).")
    buckets: int = Field(
        50_000,
        ge=1,
        le=100_000_000,
        description="Rows of the table that n-grams of two or more tokens share by hash.",
    )
    width: int = Field(64, ge=4, le=4096, description="Elements of an embedding.")
    dropout: float = Field(
        0.3, ge=0, lt=1, description="Share of the pooled embedding that is dropped."
    )
