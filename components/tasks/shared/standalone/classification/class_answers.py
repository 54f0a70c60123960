"""Turn logits into the most probable class. Exported folders have a copy of this module."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

ANSWER_FIELDS = ("label", "probability", "probabilities")


def answer_of(logits: NDArray[Any], card: Mapping[str, Any]) -> dict[str, Any]:
    """Return the answer of one row: the softmax of its logits, in float64.

    Args:
        logits: (1, c).
        card: of the model, with the classes in the order of the logits.
    """
    row = np.asarray(logits, dtype=np.float64)[0]
    exponentials = np.exp(row - row.max())
    probabilities = exponentials / exponentials.sum()
    return {
        "label": card["classes"][int(row.argmax())],
        "probability": float(probabilities.max()),
        "probabilities": dict(zip(card["classes"], probabilities.tolist(), strict=True)),
    }
