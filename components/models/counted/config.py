"""Config of the network over counted n-grams; imports without torch."""

from __future__ import annotations

from pydantic import Field

from components.core.params import Strict
from components.models.textcnn.config import TextCNNConfig


class CountedConfig(Strict):
    """What is counted, and what is joined."""

    n: int = Field(4, ge=1, le=8)  # tokens of the longest n-gram
    ends: int = Field(
        16, ge=0
    )  # tokens at either end, whose n-grams of up to three count apart as well; 0: none
    min_documents: int = Field(2, ge=1)  # train rows in which an n-gram must occur
    rows: int = Field(
        300_000, ge=1, le=100_000_000
    )  # of the table: the most frequent n-grams are kept
    dropout: float = Field(0.0, ge=0, lt=1)  # share of a row's n-grams
    textcnn: TextCNNConfig | None = None  # joined to it; None: the linear path alone
