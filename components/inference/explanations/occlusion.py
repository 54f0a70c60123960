"""Explanation of an answer: what it loses when a part of the query is left out.

It works for any model.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from components.tasks.base import Explains, ReportsExplanations

# the longest query that is explained: it is asked again for each of its parts
CHARACTERS = 2000


def variants(rules: Explains, query: Any, parts: Sequence[str]) -> list[Any]:
    """Return the (parts,) queries to ask in addition: one without each part.

    Args:
        rules: of the task.
        query: to explain.
        parts: of the query.
    """
    return [rules.without(query, parts, index) for index in range(len(parts))]


def explain(
    rules: Explains | ReportsExplanations, whole: Any, others: Sequence[Any]
) -> list[float]:
    """Return by how much the support of the answer falls without each part: (parts,).

    Args:
        rules: of the task.
        whole: the answer to the query.
        others: the answers without each part; None where the part is all there is to answer.
    """
    full = rules.support(whole, whole)
    weights = []
    for other in others:
        weights.append(full - support_of(rules, other, whole))
    return weights


def support_of(rules: Explains | ReportsExplanations, answer: Any, claim: Any) -> float:
    """Return the support of an answer for a claim; 0 where there was nothing to answer.

    Args:
        rules: of the task.
        answer: to a part of the query, or None.
        claim: the answer to the whole query.
    """
    return 0.0 if answer is None else float(rules.support(answer, claim))
