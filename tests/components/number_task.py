"""A task with a number as target: no classes, no right answers, an interval beside each number."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any, Literal

import numpy as np
import pytest
from pydantic import BaseModel

from components.core.bundles import Card
from components.core.params import Strict
from components.fields.base import Field
from components.fields.text import Text
from components.inference.predictor import Prepared
from components.metrics.distributions import CardPart, NumbersDistribution, numbers
from components.tasks import base
from components.tasks.base import Role, TargetInfo

NUMBER = "number"
TARGETS = {"smallest": 0.0, "largest": 9.0}
SCRIPT = """
const OUTCOME = "error";
const ANSWER_WORDS = {
  en: { error: "Error of answers" },
  zh: { error: "误差" },
};
const answerName = (answer) => answer.value.toFixed(2);
function answerElements(answer) {
  const interval = make("small", { textContent: `${answer.low} to ${answer.high}` });
  return [make("div", { id: "value", className: "headline" }, answerName(answer), interval)];
}
"""


class Query(BaseModel):
    """A text about something with a price, and its size if that is known."""

    text: str
    size: float | None = None


class Price(BaseModel):
    """A number between two bounds."""

    value: float
    low: float
    high: float


class PriceTruth(Strict):
    """The number that is true."""

    value: float


class Range(Strict):
    """The numbers that training had."""

    smallest: float
    largest: float


class Errors(CardPart):
    """Absolute errors of the answers to the validation split."""

    errors: NumbersDistribution


class NumberFeedback:
    """Truths and drift of numbers."""

    Truth: type[BaseModel] = PriceTruth
    Profile: type[BaseModel] = Errors
    noun = "value"
    outcome = "error"
    features: Mapping[str, Literal["names", "numbers"]] = {"value": "numbers"}

    def check(self, truth: Any, targets: TargetInfo) -> tuple[str, str] | None:
        """Refuse a number far beyond those of training."""
        if abs(truth.value) > 100 * targets["largest"]:
            return "value", "is far beyond the values of training"
        return None

    def text(self, answer: Any) -> str:
        """Return the number."""
        return repr(answer.value)

    def truth_text(self, truth: Mapping[str, Any]) -> str:
        """Return the number."""
        return repr(truth["value"])

    def features_of(self, text: str, confidence: float | None) -> Mapping[str, Any]:
        """Return the number."""
        assert confidence is None
        return {"value": float(text)}

    def profile(self, answers: Sequence[Any], truths: Sequence[Any]) -> Mapping[str, Any]:
        """Return the distribution of the absolute errors."""
        pairs = zip(answers, truths, strict=True)
        return {"errors": numbers([abs(answer.value - truth) for answer, truth in pairs])}

    def worse(
        self, profile: Mapping[str, Any], pairs: Sequence[tuple[str, str]]
    ) -> tuple[float, str]:
        """Return the p value of the one-sided rank test of Mann and Whitney (1947)."""
        from scipy.stats import mannwhitneyu

        known = profile["errors"]
        before = np.repeat(known["edges"], np.diff(known["below"], prepend=0))
        now = [abs(float(text) - float(truth)) for text, truth in pairs]
        p = float(mannwhitneyu(now, before, alternative="greater").pvalue)
        return p, f"median error {np.median(before):.2g} -> {np.median(now):.2g}"


class NumberEvaluator:
    """The part of the facet evaluator.py that serving and monitoring use."""

    Query: type[BaseModel] = Query
    Answer: type[BaseModel] = Price
    feedback: base.TaskFeedback = NumberFeedback()

    def columns(self, queries: Sequence[Any]) -> Mapping[str, Sequence[Any]]:
        """Return the texts and the sizes."""
        return {
            "text": [query.text for query in queries],
            "size": [query.size for query in queries],
        }

    def confidence(self, answer: Any) -> None:
        """Return None: a number states no probability."""
        return

    def summary(self, answer: Any) -> Sequence[tuple[str, float | None]]:
        """Return the number with its interval."""
        return [(f"{answer.value} ({answer.low} to {answer.high})", None)]

    def page_script(self) -> str:
        """Return the script that shows a number with its interval."""
        return SCRIPT


class NumberTargets:
    """The part of the rules of targets that serving uses."""

    Info: type[BaseModel] = Range


class CleanParams(Strict):
    """No params."""


class NumberSchema(base.FixedInputs):
    """The part of the facet schema.py that serving and monitoring use."""

    options: Mapping[str, type[BaseModel]] = {"clean": CleanParams}
    roles = (Role("text", Text(), "input"), Role("price", Text(), "target"))
    targets = NumberTargets()

    def fields(self, options: BaseModel) -> Mapping[str, Field]:
        """Return the field of the text."""
        return {"text": Text()}


@pytest.fixture
def number_task(monkeypatch: pytest.MonkeyPatch) -> NumberEvaluator:
    """Add the task to those of the project."""
    evaluator = NumberEvaluator()
    for name, facet in (("evaluator", evaluator), ("schema", NumberSchema())):
        module = ModuleType(name)
        setattr(module, name.upper(), facet)
        monkeypatch.setitem(sys.modules, f"components.tasks.{NUMBER}.{name}", module)
    known = base.tasks()
    monkeypatch.setattr(base, "tasks", lambda: [*known, NUMBER])
    return evaluator


def price(value: float) -> Price:
    """Return an answer."""
    return Price(value=value, low=value - 1, high=value + 1)


class Prices:
    """A predictor that answers with the number that the text holds."""

    def __init__(self, profile: dict[str, Any]) -> None:
        self.card = Card(
            NUMBER, "numpy", "linear", {}, TARGETS, 7, "ab" * 32, "cd" * 32, ["train"], profile
        )

    def prepare(self, queries: Sequence[Any]) -> Sequence[Prepared]:
        return [Prepared({"text": query.text, "size": query.size}, 1) for query in queries]

    def score(self, rows: Sequence[Prepared]) -> Sequence[Price]:
        return [price(float(row.row["text"]) + (row.row["size"] or 0)) for row in rows]
