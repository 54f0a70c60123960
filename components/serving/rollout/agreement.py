"""Agreement of two answers of one model to one query.

The query may be asked alone or with others, in this process or over HTTP.
"""

from __future__ import annotations

from components.core.bundles import Card

# other batch sizes and threads add up in another order
_FLOAT = 1e-4
# Rounding makes steps of such differences: 0.003 was measured. Rows that are mixed up, or padding
# that is read, move answers by tenths.
_QUANTIZED = 0.02


def tolerance(card: Card) -> float:
    """Return the largest `TaskEvaluator.output_distance` that rounding explains."""
    return _QUANTIZED if card.quantized else _FLOAT
