"""Judging one class out of a few: answers, figures, and what a case looks like."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Literal, cast

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import BaseModel, Field

from components.metrics import classification
from components.tasks.base import FEEDBACK, Arrays, Case, Metric, Scorer


class Answer(BaseModel):
    """The most probable class and how probable each is."""

    label: str
    probability: float = Field(ge=0, le=1)
    probabilities: dict[str, float]
    abstained: bool = Field(
        False,
        description="Not sure: the probability is below what serve.abstain asks for; the label is the best guess",
    )


class Figure:
    """A figure from the confusion matrix or from the probabilities of a subset of cases."""

    goal: Literal["min", "max"] = "max"

    def __init__(
        self, name: str, of_confusion: Callable[[NDArray[np.float64]], float] | None = None
    ) -> None:
        self.name, self.of_confusion = name, of_confusion

    def example_stats(self, answer: Any, truth: Any) -> Mapping[str, Any]:
        """Truth and prediction as class indices, and the probabilities (c,)."""
        classes = list(answer.probabilities)
        return {
            "truth": classes.index(truth),
            "predicted": classes.index(answer.label),
            "scores": list(answer.probabilities.values()),
        }

    def value(self, units: Mapping[str, NDArray[Any]]) -> float:
        """The figure over cases (n,)."""
        if self.of_confusion is None:
            return classification.auc(units["truth"], units["scores"])
        side = units["scores"].shape[1]
        counts = np.bincount(units["truth"] * side + units["predicted"], minlength=side * side)
        return self.of_confusion(counts.reshape(side, side).astype(float))


class ClassificationEvaluator:
    """Facet evaluator.py of classification tasks; a task adds its query."""

    options: ClassVar[Mapping[str, type[BaseModel]]] = {}
    Query: type[BaseModel]
    Answer: type[BaseModel] = Answer
    metrics: Sequence[Metric] = (
        Figure("macro_f1", classification.macro_f1),
        Figure("accuracy", classification.accuracy),
        Figure("precision", classification.precision),
        Figure("recall", classification.recall),
        Figure("auc"),
    )

    def query(self, row: Mapping[str, Any]) -> BaseModel:
        """A query from a row of clean."""
        raise NotImplementedError  # each task has its own

    def slices(self, row: Mapping[str, Any]) -> Mapping[str, str]:  # noqa: ARG002
        """Kind of slice -> value, e.g. length -> long."""
        return {}

    def cases(self, rows: pa.Table) -> Iterator[Case[Any]]:
        """One case a row; where some are feedback, what it says and what the source says are slices."""
        told = rows.to_pylist()
        mixed = any(row["id"].startswith(FEEDBACK) for row in told)
        for row in told:
            origin = (
                {"from": "feedback" if row["id"].startswith(FEEDBACK) else "source"}
                if mixed
                else {}
            )
            yield Case(
                row["id"],
                self.query(row),
                row["label"],
                {"class": row["label"], **self.slices(row), **origin},
            )

    def answers(self, scorer: Scorer, batch: Arrays, classes: Sequence[str]) -> Sequence[BaseModel]:
        """Softmax of the logits (n, c), in float64 so that runtimes agree to the last digits shown."""
        logits = scorer("forward", batch)["logits"].astype(np.float64)
        exp = np.exp(logits - logits.max(axis=1, keepdims=True))
        probabilities = exp / exp.sum(axis=1, keepdims=True)
        return [
            Answer(
                label=classes[int(row.argmax())],
                probability=float(row.max()),
                probabilities=dict(zip(classes, row.tolist(), strict=True)),
            )
            for row in probabilities
        ]

    def is_correct(self, answer: Any, truth: Any) -> bool:
        """The most probable class is the true one."""
        return bool(answer.label == truth)

    def support(self, answer: Any, label: str) -> float:
        """The log-odds of the label, between -30 and 30."""
        chance = answer.probabilities[label]
        rest = sum(
            value for name, value in answer.probabilities.items() if name != label
        )  # not 1 - chance, which is 0 long before it
        return float(np.clip(np.log(max(chance, 1e-300)) - np.log(max(rest, 1e-300)), -30, 30))

    def confidence(self, answer: Any) -> float:
        """Of the most probable class."""
        return float(answer.probability)

    def abstain(self, answer: Any) -> BaseModel:
        """Return the answer marked as not sure."""
        return cast(BaseModel, answer.model_copy(update={"abstained": True}))

    def output_distance(self, one: Any, other: Any) -> float:
        """The largest difference of a probability; where the labels differ, at least half of what lies between them in either answer."""
        apart = [
            abs(one.probabilities[label] - chance) for label, chance in other.probabilities.items()
        ]
        between = [
            abs(each.probabilities[one.label] - each.probabilities[other.label]) / 2
            for each in (one, other)
        ]
        return float(np.max([*apart, *between]))  # NaN where there is one

    def example(self, rows: pa.Table) -> Sequence[BaseModel]:
        """The first row of each class, at most six."""
        first: dict[str, BaseModel] = {}
        for row in rows.to_pylist():
            first.setdefault(row["label"], self.query(row))
        return list(first.values())[:6]
