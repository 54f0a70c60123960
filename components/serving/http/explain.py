"""Which parts of a query mattered: what the answer loses when each is left out, whatever model answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from components.tasks.base import Explains

CHARACTERS = 2000  # of what may be explained: it is asked again for each of its parts


def variants(rules: Explains, query: Any, parts: Sequence[str]) -> list[Any]:
    """(parts,) the queries that have to be asked beside it: one without each part."""
    return [rules.without(query, parts, place) for place in range(len(parts))]


def explain(rules: Explains, whole: Any, others: Sequence[Any]) -> list[float]:
    """(parts,) by how much the support of the label falls without each.

    Args:
        rules: of the task.
        whole: the answer to the query.
        others: the answers without each part; None where nothing is left to answer, and the part is all there is.
    """
    full = rules.support(whole, whole.label)
    return [
        full - (0.0 if other is None else rules.support(other, whole.label)) for other in others
    ]
