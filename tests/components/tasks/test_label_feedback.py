"""Feedback of classification: labels that may be true, and what monitoring compares."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError
from scipy import stats

from components.metrics.exact_tests import share_decrease
from components.tasks.base import evaluator, tasks
from components.tasks.shared.evaluator.classification.evaluator import Answer
from components.tasks.shared.evaluator.classification.label_feedback import LabelFeedback

RULES = LabelFeedback()
TARGETS = {"classes": ["neg", "pos"]}


def answer(label: str, probability: float = 0.9) -> Answer:
    other = {"neg": "pos", "pos": "neg"}[label]
    shares = {label: probability, other: 1 - probability}
    return Answer(label=label, probability=probability, probabilities=shares)


CLASSIFICATION = [task for task in tasks() if task.endswith("_classification")]


@pytest.mark.parametrize("task", CLASSIFICATION)
def test_classification_tasks_have_it(task: str) -> None:
    feedback = evaluator(task).feedback
    assert (feedback.noun, feedback.outcome) == ("label", "accuracy")


def test_only_a_class_of_the_model_can_be_true() -> None:
    assert RULES.check(RULES.Truth(label="neg"), TARGETS) is None
    mistake = RULES.check(RULES.Truth(label="bad"), TARGETS)
    assert mistake == ("label", "is not one of the model's classes")
    for label in ("", "x" * 201):
        with pytest.raises(ValidationError):
            RULES.Truth(label=label)


def test_an_answer_is_its_class_and_its_probability() -> None:
    assert RULES.text(answer("pos")) == RULES.truth_text({"label": "pos"}) == "pos"
    features = RULES.features_of("pos", 0.9)
    assert features == {"prediction.label": "pos", "prediction.probability": 0.9}
    assert list(RULES.features) == list(features)


@pytest.mark.parametrize(
    "profile",
    [
        {},
        {"rows": 5},
        {"rows": 0, "right": 0},
        {"rows": 5, "right": 6},
        {"rows": 5, "right": -1},
        {"rows": 5.0, "right": 1},
        {"rows": 10**13, "right": 1},
        None,
    ],
    ids=str,
)
def test_a_profile_that_it_cannot_have_written_is_refused(profile: Any) -> None:
    with pytest.raises(ValidationError):
        RULES.Profile.model_validate(profile)


def test_a_fall_of_accuracy_is_tested_on_one_side() -> None:
    answers = [answer("pos")] * 10
    profile = RULES.profile(answers, ["pos"] * 9 + ["neg"])
    assert profile == {"rows": 10, "right": 9}
    RULES.Profile.model_validate(profile | {"fields": {}, "later": 1})
    p, change = RULES.worse(profile, [("pos", "pos")] * 2 + [("pos", "neg")] * 6)
    expected = stats.fisher_exact([[2, 6], [9, 1]], alternative="less").pvalue
    assert p == pytest.approx(expected) == pytest.approx(share_decrease(2, 8, 9, 10))
    assert change == "90.0% -> 25.0%"
    assert RULES.worse(profile, [("pos", "pos")] * 20)[0] > 0.9
