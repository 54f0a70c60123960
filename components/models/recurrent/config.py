"""Config of the recurrent network; imports without torch."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from components.core.params import Strict


class RecurrentConfig(Strict):
    """Widths of the network."""

    cell: Literal["lstm", "gru"] = "lstm"
    width: int = Field(128, ge=4, le=4096)
    hidden: int | list[int] = (
        96  # units of each direction; a list gives forward and backward of each layer their own (as pruning leaves them)
    )
    layers: int = Field(1, ge=1, le=16)
    attention: int = Field(64, ge=1, le=4096)  # hidden units of the pooling's score
    dropout: float = Field(0.3, ge=0, lt=1)

    @model_validator(mode="after")
    def _widths(self) -> RecurrentConfig:
        if min(self.hidden if isinstance(self.hidden, list) else [self.hidden], default=0) < 1:
            raise ValueError("hidden must be at least 1")
        if isinstance(self.hidden, list) and len(self.hidden) != 2 * self.layers:
            raise ValueError(
                f"hidden has {len(self.hidden)} widths, but {self.layers} layer(s) of two directions take {2 * self.layers}"
            )
        return self

    @property
    def hidden_of(self) -> list[tuple[int, int]]:
        """Units of each layer, forward and backward."""
        return (
            list(zip(self.hidden[::2], self.hidden[1::2], strict=True))
            if isinstance(self.hidden, list)
            else [(self.hidden, self.hidden)] * self.layers
        )
