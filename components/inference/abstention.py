"""Read the confidence below which a model's answers count as "not sure" from its card.

The table of thresholds is that of `selective_prediction.abstention_table`.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain
from typing import Any

from components.core.errors import InputError
from components.metrics.selective_prediction import threshold

# Key in the profile of a bundle's card, whose hash is in the registry.
KEY = "abstention"


def threshold_of(profile: Mapping[str, Any], share: float, where: str) -> float:
    """Return the threshold of a model from the table that evaluate wrote into its card.

    Args:
        profile: of the card.
        share: `serve.abstain`.
        where: origin of the share, for messages.

    Raises:
        InputError: the card holds no table.
    """
    table: Any = profile.get(KEY)
    if not _is_table(table):
        what = (
            "tells nothing of how sure the model was on validation: it was made before "
            "abstention, or its answers state no probability"
        )
        raise InputError(
            what,
            where=where,
            remedy="gristmill run makes a model that can; or set serve.abstain: null",
        )
    return threshold(table, share)


def _is_table(table: Any) -> bool:
    """Return whether a value from a card is a table with at least one threshold."""
    if not isinstance(table, Mapping) or not {"thresholds", "answered", "wrong"} <= table.keys():
        return False
    columns = [table[name] for name in ("thresholds", "answered", "wrong")]
    if not all(isinstance(column, list) and len(column) == len(columns[0]) for column in columns):
        return False
    values = chain.from_iterable(columns)
    return bool(columns[0]) and all(isinstance(value, int | float) for value in values)
