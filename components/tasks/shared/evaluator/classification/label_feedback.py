"""Compare answers of a running service with the labels that clients send for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import BaseModel, Field, model_validator

from components.core.params import Strict
from components.metrics.distributions import CardPart, Count, Rows
from components.metrics.exact_tests import share_decrease
from components.tasks.base import TargetInfo

_LABEL = "prediction.label"
_PROBABILITY = "prediction.probability"


class LabelTruth(Strict):
    """The class that is right."""

    label: str = Field(
        min_length=1, max_length=200, description="The right one of the model's classes"
    )


class RightAnswers(CardPart):
    """How many answers to the validation split are right."""

    rows: Rows
    right: Count

    @model_validator(mode="after")
    def _is_possible(self) -> RightAnswers:
        if self.right > self.rows:
            raise ValueError("more answers are right than there are")
        return self


class LabelFeedback:
    """Truths and drift of classification."""

    Truth: type[BaseModel] = LabelTruth
    Profile: type[BaseModel] = RightAnswers
    noun = "label"
    outcome = "accuracy"
    features: Mapping[str, Literal["names", "numbers"]] = {
        _LABEL: "names",
        _PROBABILITY: "numbers",
    }

    def check(self, truth: Any, targets: TargetInfo) -> tuple[str, str] | None:
        """Return the field and the reason where a label is none of the model's classes."""
        if truth.label in targets["classes"]:
            return None
        return "label", "is not one of the model's classes"

    def text(self, answer: Any) -> str:
        """Return the most probable class."""
        return str(answer.label)

    def truth_text(self, truth: Mapping[str, Any]) -> str:
        """Return the label."""
        return str(truth["label"])

    def features_of(self, text: str, confidence: float | None) -> Mapping[str, Any]:
        """Return the class of an answer and its probability."""
        return {_LABEL: text, _PROBABILITY: confidence}

    def profile(self, answers: Sequence[Any], truths: Sequence[Any]) -> Mapping[str, Any]:
        """Return the numbers of all and of right answers: {"rows", "right"}."""
        right = 0
        for answer, truth in zip(answers, truths, strict=True):
            right += answer.label == truth
        return {"rows": len(answers), "right": right}

    def worse(
        self, profile: Mapping[str, Any], pairs: Sequence[tuple[str, str]]
    ) -> tuple[float, str]:
        """Return the p value of Fisher's exact test, one-sided, and the change of the accuracy.

        Args:
            profile: of `profile`.
            pairs: (n,) class of an answer, and its label.
        """
        right = sum(text == truth for text, truth in pairs)
        p = share_decrease(right, len(pairs), profile["right"], profile["rows"])
        before = profile["right"] / profile["rows"]
        return p, f"{before:.1%} -> {right / len(pairs):.1%}"
