"""Read the intervals that a model states from its card, into which evaluate writes them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from components.tasks import base

# Key in the profile of a bundle's card, whose hash is in the registry.
KEY = "intervals"


def intervals_of(evaluator: base.TaskEvaluator, profile: Mapping[str, Any]) -> Any:
    """Return the intervals of a model; None where its card or its task has none.

    Args:
        evaluator: of the task.
        profile: of the card, which may come from anywhere.

    Raises:
        ValidationError: they are not valid.
    """
    if KEY not in profile or not isinstance(evaluator, base.StatesIntervals):
        return None
    return evaluator.Intervals.model_validate(profile[KEY])
