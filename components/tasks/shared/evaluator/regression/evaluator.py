"""Evaluate regression: answers, metrics and cases."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, cast

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import BaseModel

from components.metrics import regression
from components.metrics.conformal import coverage_of
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
from components.tasks.shared.evaluator.regression.answer import NumberAnswer, answer_text
from components.tasks.shared.evaluator.regression.intervals import Intervals, intervals_of
from components.tasks.shared.evaluator.regression.number_feedback import NumberFeedback
from components.tasks.shared.evaluator.regression.number_report import RegressionReport
from components.tasks.shared.evaluator.regression.rmse_comparison import RegressionComparison

Values = NDArray[np.float64]
_EXAMPLES = 5
_NAN = float("nan")


class ErrorMetric:
    """A metric of answer minus truth.

    Args:
        name: of the metric.
        title: its name for people.
        goal: whether a small or a large value is good.
        compute: the metric of errors (n,) and truths (n,).
    """

    is_share = False

    def __init__(
        self,
        name: str,
        title: str,
        goal: Literal["min", "max"],
        compute: Callable[[Values, Values], float],
    ) -> None:
        self.name = name
        self.title = title
        self.goal: Literal["min", "max"] = goal
        self.compute = compute

    def example_stats(self, answer: Any, truth: Any) -> Mapping[str, Any]:
        """Return the error and the truth."""
        return {"error": answer.value - truth, "truth": truth}

    def value(self, units: Mapping[str, NDArray[Any]]) -> float:
        """Return the metric over "error" and "truth" (n,)."""
        return self.compute(units["error"], units["truth"])


class IntervalMetric:
    """A metric of the intervals; NaN where no answer has one.

    Args:
        name: of the metric.
        title: its name for people.
        goal: whether a small or a large value is good.
        is_share: whether values are shares.
        compute: the metric of lower ends, upper ends, truths and stated coverages, each (n,).
    """

    def __init__(
        self,
        name: str,
        title: str,
        goal: Literal["min", "max"],
        is_share: bool,
        compute: Callable[[Values, Values, Values, Values], float],
    ) -> None:
        self.name = name
        self.title = title
        self.goal: Literal["min", "max"] = goal
        self.is_share = is_share
        self.compute = compute

    def example_stats(self, answer: Any, truth: Any) -> Mapping[str, Any]:
        """Return the interval and the truth; NaN where there is no interval."""
        if answer.low is None or answer.high is None or answer.coverage is None:
            return {"low": _NAN, "high": _NAN, "coverage": _NAN, "truth": truth}
        return {
            "low": answer.low,
            "high": answer.high,
            "coverage": answer.coverage,
            "truth": truth,
        }

    def value(self, units: Mapping[str, NDArray[Any]]) -> float:
        """Return the metric over the cases whose answers have an interval.

        Args:
            units: "low", "high", "coverage" and "truth" (n,).
        """
        has_interval = np.isfinite(units["coverage"])
        if not has_interval.any():
            return _NAN
        columns = [units[name][has_interval] for name in ("low", "high", "truth", "coverage")]
        return self.compute(*columns)


def interval_pinball(low: Values, high: Values, truths: Values, coverages: Values) -> float:
    """Return the mean pinball loss of both ends, as quantiles that the coverage states.

    Args:
        low: (n,) lower ends.
        high: (n,) upper ends.
        truths: (n,) of the cases.
        coverages: (n,) stated; all are equal.
    """
    tail = (1 - float(coverages[0])) / 2
    below = regression.pinball(low - truths, tail)
    return (below + regression.pinball(high - truths, 1 - tail)) / 2


def _share_covered(
    low: Values,
    high: Values,
    truths: Values,
    coverages: Values,  # noqa: ARG001
) -> float:
    return coverage_of(low, high, truths)


class CoverageMetric(IntervalMetric):
    """The share of the truths that lie in their intervals."""

    def __init__(self) -> None:
        super().__init__("coverage", "coverage", "max", True, _share_covered)

    def exact_interval(
        self, stats: Mapping[str, NDArray[Any]], confidence: float
    ) -> tuple[float, float] | None:
        """Return the exact interval of the share; None where no answer has an interval.

        Args:
            stats: "low", "high", "coverage" and "truth" (n,).
            confidence: of the interval.
        """
        cases = int(np.isfinite(stats["coverage"]).sum())
        if not cases:
            return None
        covered = round(self.value(stats) * cases)
        return share_interval(covered, cases, (1 - confidence) / 2)


# It decides, and people read it. The gates compare it too, so that no page shows one error that
# fell beside another that rose. The mean error stands beside it in the table of candidates.
_RMSE = ErrorMetric("rmse", "RMSE", "min", lambda errors, _: regression.rmse(errors))


class RegressionEvaluator:
    """Facet evaluator.py of regression tasks. A task adds its query."""

    options: ClassVar[Mapping[str, type[BaseModel]]] = {}
    Query: type[BaseModel]
    Answer: type[BaseModel] = NumberAnswer
    Intervals: type[BaseModel] = Intervals
    report_metric: Metric = _RMSE
    metrics: Sequence[Metric] = (
        report_metric,
        ErrorMetric("mae", "MAE", "min", lambda errors, _: regression.mae(errors)),
        ErrorMetric("r2", "R²", "max", regression.r2),
        IntervalMetric("pinball", "pinball loss", "min", False, interval_pinball),
        CoverageMetric(),
    )
    report: TaskReport = RegressionReport()
    gates: ChampionComparison = RegressionComparison()
    feedback: TaskFeedback = NumberFeedback()

    def query(self, row: Mapping[str, Any]) -> BaseModel:
        """Return the query of a row of clean. Each task implements it."""
        raise NotImplementedError

    def slices_of(
        self,
        rows: Sequence[Mapping[str, Any]],
        inputs: Mapping[str, Any],  # noqa: ARG002
    ) -> Sequence[Mapping[str, str]]:
        """Return kind of slice -> value of each row, e.g. color -> red.

        Args:
            rows: (n,) of a split of clean.
            inputs: of the pipeline, as JSON.
        """
        return [{} for _ in rows]

    def cases(self, rows: pa.Table, inputs: Mapping[str, Any] = NO_INPUTS) -> Iterator[Case[Any]]:
        """Yield one case per row. Where some rows are feedback, the origin is a slice.

        Args:
            rows: of the clean table, with a column "target".
        """
        records = rows.to_pylist()
        has_feedback = any(row["id"].startswith(FEEDBACK) for row in records)
        for row, row_slices in zip(records, self.slices_of(records, inputs), strict=True):
            slices = renamed_slices(row_slices)
            if has_feedback:
                is_feedback = row["id"].startswith(FEEDBACK)
                slices["from"] = "feedback" if is_feedback else "source"
            yield Case(
                row["id"],
                self.query(row),
                float(row["target"]),
                slices,
            )

    def answers(self, scorer: Scorer, batch: Arrays, targets: TargetInfo) -> Sequence[BaseModel]:
        """Return the answers of a batch: center + scale * logit, without intervals.

        They are computed in float64, so that runtimes agree to the last digits shown.

        Args:
            scorer: of the bundle.
            batch: n encoded rows.
            targets: with center and scale.
        """
        values = _in_unit(scorer("forward", batch)["logits"], targets)
        return [NumberAnswer(value=value) for value in values.tolist()]

    def check_outputs(self, outputs: Arrays, targets: TargetInfo) -> str:
        """Return what is wrong with logits: their shape, NaN or infinity; "" if nothing is."""
        logits = outputs["logits"]
        if logits.ndim != 2 or logits.shape[1] != 1:
            return f"answers with shape {logits.shape}, not with one number a row"
        if not np.isfinite(_in_unit(logits, targets)).all():
            return "answers with NaN or infinity: its weights are no use"
        return ""

    def fit_intervals(self, answers: Sequence[Any], truths: Sequence[Any]) -> Mapping[str, Any]:
        """Return the table of intervals for the card, from answers to the validation split.

        Args:
            answers: (n,) to the cases.
            truths: (n,) of the cases.
        """
        return intervals_of([answer.value for answer in answers], truths)

    def with_interval(self, answer: Any, intervals: BaseModel) -> BaseModel:
        """Return the answer with its interval."""
        return cast(Intervals, intervals).around(answer)

    def case_stats(self, answers: Sequence[Any], truths: Sequence[Any]) -> CaseStats:
        """Return errors, targets, and whether the intervals hold the targets.

        Returns:
            {"error": (n,) answer minus truth, "target": (n,) truths, "covered": (n,) bool,
            "coverage": (n,) stated}. The last two are None where there is no interval.
        """
        stats: dict[str, list[Any]] = {"error": [], "target": [], "covered": [], "coverage": []}
        for answer, truth in zip(answers, truths, strict=True):
            covered = None
            if answer.coverage is not None:
                covered = bool(answer.low <= truth <= answer.high)
            stats["error"].append(float(answer.value - truth))
            stats["target"].append(float(truth))
            stats["covered"].append(covered)
            stats["coverage"].append(answer.coverage)
        return stats

    def confidence(self, answer: Any) -> float | None:  # noqa: ARG002
        """Return None: a number is not right or wrong."""
        return None

    def support(self, answer: Any, claim: Any) -> float:  # noqa: ARG002
        """Return the number, so that the weight of a part is how much it adds to the answer.

        Args:
            answer: to a part of the query.
            claim: not used.
        """
        return float(answer.value)

    def direction(
        self,
        outputs: NDArray[Any],  # noqa: ARG002
        targets: TargetInfo,
    ) -> NDArray[np.float64]:
        """Return (1,) the weight of the output: what it is in the unit of the targets.

        Args:
            outputs: not used.
            targets: with the scale.
        """
        return np.array([float(targets["scale"][0])])

    def closeness(self, answer: Any, truth: Any) -> float:
        """Return the distance of the answer from the true number, with a minus."""
        return -abs(float(answer.value) - float(truth.value))

    def summary(self, answer: Any) -> Sequence[tuple[str, float | None]]:
        """Return the number with its interval."""
        return [(answer_text(answer), None)]

    def output_distance(self, one: Any, other: Any, targets: TargetInfo) -> float:
        """Return the difference of the numbers, as a share of the range of the train targets.

        An int8 network answers in steps of about 1/255 of that range, however skewed it is. The
        deviation would be a fraction of a step where a few targets are far from the others.

        The ends of the intervals do not count: at the edge between two groups of answers,
        rounding decides which interval an answer has.

        Args:
            one: an answer.
            other: another answer to the same query.
            targets: with the range.

        Returns:
            The distance, at least 1 where only one of the answers has an interval. NaN where a
            number is NaN.
        """
        least, largest = targets["range"]
        distance = abs(one.value - other.value) / (largest - least)
        if (one.coverage is None) != (other.coverage is None):
            return float(np.maximum(distance, 1.0))
        return float(distance)

    def example(self, rows: pa.Table) -> Sequence[BaseModel]:
        """Return the queries of a few rows, from small numbers to large ones."""
        order = np.argsort(rows["target"].to_numpy(), kind="stable")
        count = min(_EXAMPLES, len(order))
        positions = np.unique(np.linspace(0, len(order) - 1, count + 2)[1:-1].astype(int))
        return [self.query(row) for row in rows.take(order[positions]).to_pylist()]

    def page_script(self) -> str:
        """Return the script that shows a number with its interval."""
        return (Path(__file__).parent / "answer.js").read_text(encoding="utf-8")


def _in_unit(logits: NDArray[Any], targets: TargetInfo) -> Values:
    """Return standardized answers (n, 1) in the unit of the targets, (n,)."""
    center = float(targets["center"][0])
    scale = float(targets["scale"][0])
    with np.errstate(over="ignore", invalid="ignore"):
        values: Values = center + scale * logits.astype(np.float64)[:, 0]
    return values
