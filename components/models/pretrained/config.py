"""Config of a pretrained encoder; imports without torch."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from components.core.params import Strict


class Lora(Strict):
    """Low-rank adapters."""

    rank: int = Field(8, ge=1, le=1024)
    alpha: float = Field(16.0, gt=0)  # the adapters' sum is scaled by alpha / rank
    dropout: float = Field(0.05, ge=0, lt=1)


class PretrainedConfig(Strict):
    """How the encoder is used and what of it learns. Which encoder it is, the tokens say."""

    way: Literal["full", "head", "lora"] = "full"
    layer_decay: float = Field(
        0.9, gt=0, le=1
    )  # of the learning rate, from each layer to the one below
    lora: Lora = Lora()
    pooling: Literal["mean", "first"] = "mean"
    dropout: float = Field(0.1, ge=0, lt=1)  # of what the head sees; the encoder has its own
    feedforward: int | None = Field(
        None, ge=1
    )  # hidden units of a layer, where pruning has changed them
