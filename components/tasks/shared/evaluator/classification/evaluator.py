"""Evaluate classification: answers, metrics and cases."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, cast

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import BaseModel, Field

from components.metrics import classification
from components.metrics.calibration import expected_calibration_error
from components.metrics.exact_tests import share_interval
from components.tasks.base import (
    FEEDBACK,
    NO_INPUTS,
    Arrays,
    Case,
    CaseStats,
    ChampionComparison,
    Metric,
    Scorer,
    TargetInfo,
    TaskFeedback,
    TaskReport,
    renamed_slices,
)
from components.tasks.shared.evaluator.classification.accuracy_comparison import (
    ClassificationComparison,
)
from components.tasks.shared.evaluator.classification.answer_panels import ClassificationReport
from components.tasks.shared.evaluator.classification.label_feedback import LabelFeedback


class Answer(BaseModel):
    """The most probable class and how probable each is."""

    label: str
    probability: float = Field(ge=0, le=1)
    probabilities: dict[str, float]
    abstained: bool = Field(
        False,
        description=(
            "Not sure: the probability is below what serve.abstain asks for; "
            "the label is the best guess"
        ),
    )


class ConfusionMetric:
    """A metric of a subset of cases, from its confusion matrix.

    Args:
        name: of the metric.
        title: its name for people.
        of_confusion: computes the metric from a confusion matrix (c, c), rows are truths.
        is_share: whether values are shares.
        is_proportion: whether it is the share of the right answers, whose distribution is known.
    """

    goal: Literal["min", "max"] = "max"

    def __init__(
        self,
        name: str,
        title: str,
        of_confusion: Callable[[NDArray[np.float64]], float],
        is_share: bool = True,
        is_proportion: bool = False,
    ) -> None:
        self.name = name
        self.title = title
        self.of_confusion = of_confusion
        self.is_share = is_share
        self.is_proportion = is_proportion

    def example_stats(self, answer: Any, truth: Any) -> Mapping[str, Any]:
        """Return truth and prediction as class indices.

        Args:
            answer: of one case.
            truth: name of the true class.
        """
        classes = list(answer.probabilities)
        return {"truth": classes.index(truth), "predicted": classes.index(answer.label)}

    def value(self, units: Mapping[str, NDArray[Any]]) -> float:
        """Return the metric over the statistics of n cases.

        Args:
            units: "truth" and "predicted" (n,).
        """
        # Classes after the last one that occurs do not count.
        side = int(max(units["truth"].max(), units["predicted"].max())) + 1
        pairs = units["truth"] * side + units["predicted"]
        counts = np.bincount(pairs, minlength=side * side)
        confusion = counts.reshape(side, side).astype(float)
        return self.of_confusion(confusion)

    def exact_interval(
        self, stats: Mapping[str, NDArray[Any]], confidence: float
    ) -> tuple[float, float] | None:
        """Return the exact interval of the share of right answers; None: a bootstrap is better.

        Means over classes have it too where all answers are right, or none, which no resample
        can change. It holds for them if all classes are equally hard.

        Args:
            stats: "truth" and "predicted" (n,).
            confidence: of the interval.
        """
        cases = len(stats["truth"])
        right = int((stats["truth"] == stats["predicted"]).sum())
        is_extreme = self.is_share and right in (0, cases)
        if self.is_proportion or is_extreme:
            return share_interval(right, cases, (1 - confidence) / 2)
        return None


class AreaUnderCurve:
    """The area under the ROC curve of a subset of cases."""

    name = "auc"
    title = "AUC"
    goal: Literal["min", "max"] = "max"
    is_share = True

    def example_stats(self, answer: Any, truth: Any) -> Mapping[str, Any]:
        """Return the truth as class index, and the probabilities (c,)."""
        return {
            "truth": list(answer.probabilities).index(truth),
            "scores": list(answer.probabilities.values()),
        }

    def value(self, units: Mapping[str, NDArray[Any]]) -> float:
        """Return the area.

        Args:
            units: "truth" (n,) and "scores" (n, c).
        """
        return classification.auc(units["truth"], units["scores"])


class LogLoss:
    """The mean log loss of a subset of cases."""

    name = "log_loss"
    title = "log loss"
    goal: Literal["min", "max"] = "min"
    is_share = False

    def example_stats(self, answer: Any, truth: Any) -> Mapping[str, Any]:
        """Return the log loss of one case."""
        probability = np.array([answer.probabilities[truth]])
        return {"loss": float(classification.log_losses(probability)[0])}

    def value(self, units: Mapping[str, NDArray[Any]]) -> float:
        """Return the mean.

        Args:
            units: "loss" (n,).
        """
        return float(units["loss"].mean())


class ExpectedCalibrationError:
    """The calibration error of a subset of cases, over 15 bins of equal width."""

    name = "ece"
    title = "ECE"
    goal: Literal["min", "max"] = "min"
    is_share = True

    def example_stats(self, answer: Any, truth: Any) -> Mapping[str, Any]:
        """Return the probability that the answer states, and whether it is right."""
        return {"confidence": float(answer.probability), "right": answer.label == truth}

    def value(self, units: Mapping[str, NDArray[Any]]) -> float:
        """Return the error.

        Args:
            units: "confidence" and "right" (n,).
        """
        return expected_calibration_error(units["confidence"], units["right"])


class ClassificationEvaluator:
    """Facet evaluator.py of classification tasks. A task adds its query."""

    options: ClassVar[Mapping[str, type[BaseModel]]] = {}
    Query: type[BaseModel]
    Answer: type[BaseModel] = Answer
    report_metric: Metric = ConfusionMetric(
        "accuracy", "accuracy", classification.accuracy, is_proportion=True
    )
    metrics: Sequence[Metric] = (
        ConfusionMetric("macro_f1", "macro F1", classification.macro_f1),
        report_metric,
        ConfusionMetric("precision", "precision", classification.precision),
        ConfusionMetric("recall", "recall", classification.recall),
        AreaUnderCurve(),
        ConfusionMetric("mcc", "MCC", classification.matthews, is_share=False),
        LogLoss(),
        ExpectedCalibrationError(),
    )
    report: TaskReport = ClassificationReport()
    gates: ChampionComparison = ClassificationComparison()
    feedback: TaskFeedback = LabelFeedback()
    score_description = ("log-odds of the answer", "回答的对数几率")
    weight_description = "By how much the log-odds of the label fall when the piece is left out"

    def query(self, row: Mapping[str, Any]) -> BaseModel:
        """Return the query of a row of clean. Each task implements it."""
        raise NotImplementedError

    def slices(self, row: Mapping[str, Any]) -> Mapping[str, str]:  # noqa: ARG002
        """Return kind of slice -> value, e.g. length -> long."""
        return {}

    def slices_of(
        self,
        rows: Sequence[Mapping[str, Any]],
        inputs: Mapping[str, Any],  # noqa: ARG002
    ) -> Sequence[Mapping[str, str]]:
        """Return the slices of each row.

        Args:
            rows: (n,) of a split of clean.
            inputs: of the pipeline, as JSON.
        """
        return [self.slices(row) for row in rows]

    def cases(self, rows: pa.Table, inputs: Mapping[str, Any] = NO_INPUTS) -> Iterator[Case[Any]]:
        """Yield one case per row. Where some rows are feedback, the origin is a slice.

        Args:
            rows: of the clean table.
        """
        records = rows.to_pylist()
        has_feedback = any(row["id"].startswith(FEEDBACK) for row in records)
        for row, row_slices in zip(records, self.slices_of(records, inputs), strict=True):
            slices = {"class": row["label"], **renamed_slices(row_slices)}
            if has_feedback:
                is_feedback = row["id"].startswith(FEEDBACK)
                slices["from"] = "feedback" if is_feedback else "source"
            yield Case(row["id"], self.query(row), row["label"], slices)

    def answers(self, scorer: Scorer, batch: Arrays, targets: TargetInfo) -> Sequence[BaseModel]:
        """Return the answers of a batch, by the softmax of the logits (n, c).

        It is computed in float64, so that runtimes agree to the last digits shown.

        Args:
            scorer: of the bundle.
            batch: n encoded rows.
            targets: with the classes in the order of the logits.
        """
        classes = targets["classes"]
        logits = scorer("forward", batch)["logits"].astype(np.float64)
        exp = np.exp(logits - logits.max(axis=1, keepdims=True))
        probabilities = exp / exp.sum(axis=1, keepdims=True)
        answers = []
        for row in probabilities:
            answer = Answer(
                label=classes[int(row.argmax())],
                probability=float(row.max()),
                probabilities=dict(zip(classes, row.tolist(), strict=True)),
            )
            answers.append(answer)
        return answers

    def check_outputs(self, outputs: Arrays, targets: TargetInfo) -> str:
        """Return what is wrong with logits: their shape, NaN or infinity; "" if nothing is."""
        logits = outputs["logits"]
        classes = len(targets["classes"])
        if logits.ndim != 2 or logits.shape[1] != classes:
            return f"answers with shape {logits.shape}, not with {classes} classes a row"
        if np.isnan(logits).any() or np.isposinf(logits).any():
            return "answers with NaN or infinity: its weights are no use"
        return ""

    def case_stats(self, answers: Sequence[Any], truths: Sequence[Any]) -> CaseStats:
        """Return whether each answer is right, and how probable it says that this is.

        Returns:
            {"right": (n,) bool, "confidence": (n,) float}.
        """
        right = []
        for answer, truth in zip(answers, truths, strict=True):
            right.append(self.is_correct(answer, truth))
        return {"right": right, "confidence": [self.confidence(answer) for answer in answers]}

    def summary(self, answer: Any) -> Sequence[tuple[str, float | None]]:
        """Return the classes with their probabilities, the most probable first."""
        return sorted(answer.probabilities.items(), key=lambda item: -item[1])

    def is_correct(self, answer: Any, truth: Any) -> bool:
        """Return whether the most probable class is the true one."""
        return bool(answer.label == truth)

    def support(self, answer: Any, claim: Any) -> float:
        """Return the log-odds of another answer's label, between -30 and 30.

        Args:
            answer: with the probabilities of all classes.
            claim: the answer with the label.
        """
        label = claim.label
        probability = answer.probabilities[label]
        # 1 - probability would round to 0 much earlier than this sum.
        rest = sum(value for name, value in answer.probabilities.items() if name != label)
        log_odds = np.log(max(probability, 1e-300)) - np.log(max(rest, 1e-300))
        return float(np.clip(log_odds, -30, 30))

    def direction(
        self,
        outputs: NDArray[Any],
        targets: TargetInfo,  # noqa: ARG002
    ) -> NDArray[np.float64]:
        """Return (c,) weights of the logits: the answered class against the next one.

        Of two classes the sum is the log-odds.

        Args:
            outputs: (c,) logits.
            targets: not used.
        """
        best, second = np.argsort(-outputs, kind="stable")[:2]
        weights = np.zeros(len(outputs))
        weights[best] = 1.0
        weights[second] = -1.0
        return weights

    def closeness(self, answer: Any, truth: Any) -> float:
        """Return the probability of a class.

        Args:
            answer: with the probabilities of all classes.
            truth: with the label.
        """
        return float(answer.probabilities[truth.label])

    def confidence(self, answer: Any) -> float:
        """Return the probability of the most probable class."""
        return float(answer.probability)

    def abstain(self, answer: Any) -> BaseModel:
        """Return the answer marked as not sure."""
        return cast(BaseModel, answer.model_copy(update={"abstained": True}))

    def output_distance(
        self,
        one: Any,
        other: Any,
        targets: TargetInfo,  # noqa: ARG002
    ) -> float:
        """Return the largest difference of a probability.

        Where the labels differ, it is at least half of the difference between the two labels
        in either answer. It is NaN where a probability is.

        Args:
            one: an answer.
            other: another answer to the same query, with the same classes.
            targets: not used.

        Returns:
            A number 0-1, or NaN.
        """
        distances = []
        for label, probability in other.probabilities.items():
            distances.append(abs(one.probabilities[label] - probability))
        for answer in (one, other):
            margin = answer.probabilities[one.label] - answer.probabilities[other.label]
            distances.append(abs(margin) / 2)
        return float(np.max(distances))

    def example(self, rows: pa.Table) -> Sequence[BaseModel]:
        """Return the query of the first row of each class, at most six."""
        first: dict[str, BaseModel] = {}
        for row in rows.to_pylist():
            first.setdefault(row["label"], self.query(row))
        return list(first.values())[:6]

    def page_script(self) -> str:
        """Return the script that shows the classes with bars."""
        return (Path(__file__).parent / "answer.js").read_text(encoding="utf-8")
