"""Answers of classification and their profile, from names and numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from components.monitoring.drift import FieldTest, outcome_test
from components.monitoring.profile import predictions_of
from components.tasks.base import evaluator
from components.tasks.shared.evaluator.classification.evaluator import Answer

TEXT = "text_classification"
OTHER = "another"


def validation_profile(
    labels: Sequence[str], probabilities: Sequence[float], right: Sequence[bool]
) -> dict[str, Any]:
    """Return the profile of answers to a validation split."""
    answers = []
    truths = []
    for label, probability, is_right in zip(labels, probabilities, right, strict=True):
        shares = {label: probability, OTHER: 1 - probability}
        answers.append(Answer(label=label, probability=probability, probabilities=shares))
        truths.append(label if is_right else OTHER)
    return predictions_of(evaluator(TEXT), answers, truths)


def accuracy_test(profile: dict[str, Any], right: int, rows: int) -> FieldTest | None:
    """Return the test of a window in which so many of all answers are right."""
    pairs = [("a", "a")] * right + [("a", OTHER)] * (rows - right)
    return outcome_test(evaluator(TEXT).feedback, profile, pairs)
