"""How far two answers of one model to one query may be apart, when it was asked alone and in company, here and over HTTP."""

from __future__ import annotations

from components.core.bundles import Card

_FLOAT = 1e-4  # other batch sizes and threads add up in another order
_QUANTIZED = 0.02  # and rounding makes steps of that: 0.003 was seen; rows that are mixed up, or padding that is read, move answers by tenths


def tolerance(card: Card) -> float:
    """The largest `Judge.gap` that rounding explains."""
    return _QUANTIZED if card.quantized else _FLOAT
