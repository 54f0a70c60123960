"""Config of the recurrent network; imports without torch."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from components.core.params import Strict


class RecurrentConfig(Strict):
    """Widths of the network."""

    cell: Literal["lstm", "gru"] = Field("lstm", description="Kind of the recurrent cell.")
    width: int = Field(128, ge=4, le=4096, description="Elements of an embedding.")
    hidden: int | list[int] = Field(
        96, description="Units of each direction, at least 1; a list gives each layer two."
    )
    layers: int = Field(1, ge=1, le=16, description="Layers, each of two directions.")
    attention: int = Field(
        64, ge=1, le=4096, description="Hidden units of the attention that pools the tokens."
    )
    dropout: float = Field(
        0.3, ge=0, lt=1, description="Share of each layer's inputs that is dropped."
    )

    @model_validator(mode="after")
    def _check_hidden(self) -> RecurrentConfig:
        sizes = self.hidden if isinstance(self.hidden, list) else [self.hidden]
        if min(sizes, default=0) < 1:
            raise ValueError("hidden must be at least 1")
        needed = 2 * self.layers
        if isinstance(self.hidden, list) and len(self.hidden) != needed:
            raise ValueError(
                f"hidden has {len(self.hidden)} widths, "
                f"but {self.layers} layer(s) of two directions take {needed}"
            )
        return self

    @property
    def hidden_of(self) -> list[tuple[int, int]]:
        """Return the units of each layer, forward and backward."""
        if not isinstance(self.hidden, list):
            return [(self.hidden, self.hidden)] * self.layers
        return list(zip(self.hidden[::2], self.hidden[1::2], strict=True))
