"""Config of a pretrained encoder; imports without torch."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from components.core.params import Strict

Count = Annotated[int, Field(ge=1)]
Counts = Annotated[list[Count], Field(min_length=1)]


class Lora(Strict):
    """Low-rank adapters."""

    rank: int = Field(8, ge=1, le=1024, description="Rank of the adapters.")
    alpha: float = Field(
        16.0, gt=0, description="Scale of the adapters: their sum times alpha / rank."
    )
    dropout: float = Field(
        0.05, ge=0, lt=1, description="Share of the adapters' inputs that is dropped."
    )


class PretrainedConfig(Strict):
    """How the encoder is used and which of its weights learn.

    The section `tokenize` names the encoder.
    """

    way: Literal["full", "head", "lora"] = Field(
        "full", description="Weights that learn (all, the head alone, or the adapters)."
    )
    layer_decay: float = Field(
        0.9, gt=0, le=1, description="Factor on the learning rate from each layer to the one below."
    )
    lora: Lora = Field(Lora(), description="Low-rank adapters, for way lora.")
    pooling: Literal["mean", "first"] = Field(
        "mean", description="Pooling of the tokens (their mean, or the first one alone)."
    )
    dropout: float = Field(
        0.1, ge=0, lt=1, description="Share of the head's input that is dropped."
    )
    layers: Count | None = Field(
        None, description="Layers of the encoder after pruning (null: as read)."
    )
    feedforward: Count | Counts | None = Field(
        None, description="Hidden units of a layer, or of each, after pruning (null: as read)."
    )
    heads: Counts | None = Field(
        None, description="Attention heads of each layer after pruning (null: as read)."
    )
