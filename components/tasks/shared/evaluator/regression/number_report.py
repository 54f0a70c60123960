"""Panels of the report about answers that are numbers: errors, intervals, targets."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from components.core.number_axis import (
    NumberAxis,
    Values,
    axis_of,
    axis_with_zero,
    number_text,
    plot_text,
)
from components.core.page_templates import count as shown_count
from components.core.page_templates import environment, percent
from components.metrics.exact_tests import share_interval
from components.tasks.base import (
    Case,
    ReportPanel,
    ReportSection,
    TargetInfo,
    WorstAnswer,
    WorstAnswers,
)
from components.tasks.shared.evaluator.regression import error_plots
from components.tasks.shared.evaluator.regression.error_plots import CoverageRow

# Ranges of true values in the plot of DVC.
_RANGES = 10
# Groups of answers whose coverage is shown, and the fewest cases of each.
_MOST_GROUPS = 8
_CASES_OF_A_GROUP = 30
# Chance that a share is beyond a bound of its interval, each side.
_TAIL = 0.025


@dataclass(frozen=True)
class AnsweredCases:
    """The answers to the test cases as arrays.

    Args:
        truths: (n,).
        values: (n,) that were answered.
        lows: (n,) lower ends of the intervals; NaN where an answer states none.
        highs: (n,) upper ends; likewise.
        coverages: (n,) that the intervals state; likewise.
    """

    truths: Values
    values: Values
    lows: Values
    highs: Values
    coverages: Values

    @property
    def errors(self) -> Values:
        """Return (n,) answers minus truths."""
        return self.values - self.truths

    @property
    def has_interval(self) -> NDArray[np.bool_]:
        """Return (n,) whether an answer states an interval."""
        ends = self.lows + self.highs + self.coverages
        return np.isfinite(ends)


def _range_names(cuts: Values) -> list[str]:
    """Return the names of the ranges between cuts, in an order that sorting keeps.

    Args:
        cuts: (k,) ascending, at least one.

    Returns:
        (k + 1,) names.
    """
    texts = [number_text(cut) for cut in cuts.tolist()]
    lower = ["", *texts]
    upper = [*texts, ""]
    names = []
    for number, (low, high) in enumerate(zip(lower, upper, strict=True), 1):
        span = f"{low} to {high}"
        if not low:
            span = f"below {high}"
        elif not high:
            span = f"from {low}"
        names.append(f"{number:02d}: {span}")
    return names


class RegressionReport:
    """What the report of evaluate shows of answers that are numbers."""

    columns: Sequence[str] = ("rmse", "mae", "r2", "coverage")

    def plot_rows(
        self, answers: Sequence[Any], cases: Sequence[Case[Any]]
    ) -> Sequence[tuple[str, str]]:
        """Return the ranges of the true and of the answered number of each case.

        DVC counts the pairs. The ranges hold like numbers of true values.
        """
        truths = np.array([float(case.truth) for case in cases])
        values = np.array([float(answer.value) for answer in answers])
        cuts = np.unique(np.quantile(truths, np.arange(1, _RANGES) / _RANGES))
        names = _range_names(cuts)
        actual = np.searchsorted(cuts, truths, side="right").tolist()
        predicted = np.searchsorted(cuts, values, side="right").tolist()
        return [(names[one], names[other]) for one, other in zip(actual, predicted, strict=True)]

    def winner_panels(
        self,
        answers: Sequence[Any],
        cases: Sequence[Case[Any]],
        targets: TargetInfo,  # noqa: ARG002
    ) -> Sequence[ReportPanel]:
        """Return plots of the answers, of their errors and of their intervals.

        Args:
            answers: (n,) of the winner.
            cases: (n,) of test.
            targets: of clean.
        """
        answered = answered_cases(answers, cases)
        panels = [_answers_panel(answered), _errors_panel(answered), _histogram_panel(answered)]
        if answered.has_interval.any():
            panels.append(_coverage_panel(answered))
        return panels

    def confidence_section(
        self,
        table: Mapping[str, Any],  # noqa: ARG002
        answers: Sequence[Any],  # noqa: ARG002
        cases: Sequence[Case[Any]],  # noqa: ARG002
    ) -> ReportSection | None:
        """Return None: a number is not right or wrong, so none is "not sure"."""
        return None

    def data_panels(self, manifest: Mapping[str, Any]) -> Sequence[ReportPanel]:
        """Return the distribution of the targets in each split.

        Args:
            manifest: of clean, with {"splits": split -> {"rows", "mean", "deviation", "least",
                "largest", "counts" (k,)}} and {"edges": (k + 1,)} between which the counts are.
        """
        splits = {name: entry for name, entry in manifest["splits"].items() if entry["rows"]}
        edges = manifest["edges"]
        lines = [_split_line(name, entry) for name, entry in splits.items()]
        panels = []
        if edges[0] < edges[-1] and splits:
            shares = {}
            for name, entry in splits.items():
                shares[name] = np.array(entry["counts"], dtype=float) / entry["rows"]
            plot = error_plots.split_histogram(NumberAxis(edges[0], edges[-1]), shares)
            note = "numbers beyond the axis are in its outer steps"
            panels.append(ReportPanel("Targets", note, plot))
        panels.append(ReportPanel("Targets by split", "", _macros().by_split(lines)))
        return panels

    def data_details(self, targets: TargetInfo) -> Sequence[tuple[str, str]]:
        """Return range, mean and deviation of the train targets."""
        least, largest = (number_text(value) for value in targets["range"])
        center = number_text(targets["center"][0])
        scale = number_text(targets["scale"][0])
        text = f"{least} to {largest} in train, mean {center}, standard deviation {scale}"
        return [("target", text)]

    def worst_answers(
        self, answers: Sequence[Any], cases: Sequence[Case[Any]], count: int
    ) -> WorstAnswers:
        """Return the answers with the largest absolute errors.

        Args:
            answers: (n,) of the winner.
            cases: (n,) of test.
            count: the most that are returned.
        """
        pairs = list(zip(answers, cases, strict=True))
        worst = heapq.nsmallest(count, pairs, key=_by_error)
        return WorstAnswers(
            "Its largest errors",
            "The answers that are farthest from the truth. Some may be mistakes of the data.",
            [WorstAnswer(case, verdict(answer, case.truth)) for answer, case in worst],
        )


def answered_cases(answers: Sequence[Any], cases: Sequence[Case[Any]]) -> AnsweredCases:
    """Return the answers to n cases as arrays."""
    return AnsweredCases(
        truths=np.array([case.truth for case in cases], dtype=np.float64),
        values=np.array([answer.value for answer in answers], dtype=np.float64),
        lows=np.array([answer.low for answer in answers], dtype=np.float64),
        highs=np.array([answer.high for answer in answers], dtype=np.float64),
        coverages=np.array([answer.coverage for answer in answers], dtype=np.float64),
    )


def verdict(answer: Any, truth: float) -> str:
    """Return what was true and what was answered, such as "true 326, answered 1,204 (…)"."""
    error = answer.value - truth
    if error > 0:
        details = [f"{number_text(error)} too high"]
    elif error < 0:
        details = [f"{number_text(-error)} too low"]
    else:
        details = ["exact"]
    if answer.low is not None and answer.high is not None and answer.coverage is not None:
        ends = f"{number_text(answer.low)} to {number_text(answer.high)}"
        details.append(f"{shown_share(answer.coverage)} interval {ends}")
    return f"true {number_text(truth)}, answered {number_text(answer.value)} ({'; '.join(details)})"


def shown_share(share: float) -> str:
    """Return a share in percent without zeros at its end: 90 %, 97.5 %."""
    return percent(share).replace(".0\u202f", "\u202f")


def coverage_groups(answered: AnsweredCases) -> list[CoverageRow]:
    """Return how often the truths are within their intervals: of all answers, and by groups.

    The groups are answers of like size. The bounds are exact (Clopper and Pearson 1934).

    Args:
        answered: with an interval at least.
    """
    stating = np.flatnonzero(answered.has_interval)
    order = stating[np.argsort(answered.values[stating], kind="stable")]
    rows = [_coverage_row("all answers", answered, order)]
    groups = min(_MOST_GROUPS, len(order) // _CASES_OF_A_GROUP)
    if groups < 2:
        return rows
    parts = _parts(answered.values[order], groups)
    names = _part_names(answered.values[order], parts)
    for name, part in zip(names, parts, strict=True):
        rows.append(_coverage_row(name, answered, order[part]))
    return rows


def _parts(ranked: Values, count: int) -> list[slice]:
    """Return slices of ascending values of like size. Equal values are in one of them."""
    wanted = np.linspace(0, len(ranked), count + 1).astype(int)[1:-1]
    starts = np.unique(np.searchsorted(ranked, ranked[wanted], side="left"))
    edges = [0, *(int(start) for start in starts if start > 0), len(ranked)]
    return [slice(first, last) for first, last in itertools.pairwise(edges)]


def _part_names(ranked: Values, parts: Sequence[slice]) -> list[str]:
    """Return the ranges of ascending values, or numbers where texts of the ranges are equal."""
    names = []
    for part in parts:
        least = plot_text(ranked[part][0])
        largest = plot_text(ranked[part][-1])
        names.append(least if least == largest else f"{least} to {largest}")
    if len(set(names)) < len(names):
        return [f"part {number} of {len(parts)}" for number in range(1, len(parts) + 1)]
    return names


def _coverage_row(name: str, answered: AnsweredCases, positions: Any) -> CoverageRow:
    """Return the coverage of the answers at some positions (k,)."""
    truths = answered.truths[positions]
    lows = answered.lows[positions]
    highs = answered.highs[positions]
    cases = len(positions)
    covered = int(np.sum((lows <= truths) & (truths <= highs)))
    low, high = share_interval(covered, cases, _TAIL)
    return CoverageRow(
        name=name,
        covered=covered / cases,
        low=low,
        high=high,
        width=plot_text(float(np.median(highs - lows))),
    )


def _answers_panel(answered: AnsweredCases) -> ReportPanel:
    """Return the plot of the answers against the truths."""
    axis = axis_of(np.concatenate([answered.truths, answered.values]), may_be_logarithmic=True)
    plot = error_plots.answers_by_truth(axis, answered.truths, answered.values)
    beyond = axis.beyond(answered.truths) | axis.beyond(answered.values)
    note = f"on the dashed line both are equal{_beyond(beyond)}"
    return ReportPanel("Answers against true values", note, plot)


def _errors_panel(answered: AnsweredCases) -> ReportPanel:
    """Return the plot of the errors against the answers, with the band of the intervals."""
    across = axis_of(answered.values, may_be_logarithmic=True)
    up = axis_with_zero(answered.errors)
    band = error_plots.band(across, answered.values, answered.lows, answered.highs)
    plot = error_plots.errors_by_answer(across, up, answered.values, answered.errors, band)
    beyond = across.beyond(answered.values) | up.beyond(answered.errors)
    note = f"above the dashed line it answered too high{_beyond(beyond)}"
    return ReportPanel("Errors by answer", note, plot)


def _histogram_panel(answered: AnsweredCases) -> ReportPanel:
    """Return the histogram of the errors."""
    errors = answered.errors
    axis = axis_with_zero(errors)
    middle = number_text(float(np.median(np.abs(errors))), 3)
    mean = number_text(float(errors.mean()), 3)
    beyond = _beyond(axis.beyond(errors))
    note = f"half of them are at most {middle} in size; their mean is {mean}{beyond}"
    return ReportPanel("Size of the errors", note, error_plots.error_histogram(axis, errors))


def _coverage_panel(answered: AnsweredCases) -> ReportPanel:
    """Return the plot of the coverage of the intervals."""
    stated = float(np.mean(answered.coverages[answered.has_interval]))
    rows = coverage_groups(answered)
    whole = rows[0]
    bounds = f"{percent(whole.low, False)}–{shown_share(whole.high)}"
    covered = shown_share(whole.covered)
    note = (
        f"they state {shown_share(stated)} and hold {covered} of the true values "
        f"(95\u202f% interval {bounds}); below by size of the answer, at the right the median width"
    )
    return ReportPanel(
        "Calibration of the intervals", note, error_plots.coverage_rows(rows, stated)
    )


def _beyond(is_beyond: NDArray[np.bool_]) -> str:
    """Return the end of a note about cases that are drawn at the edge of a plot.

    Args:
        is_beyond: (n,) whether a case is one of them.
    """
    cases = int(is_beyond.sum())
    if not cases:
        return ""
    noun = "case is" if cases == 1 else "cases are"
    return f"; {shown_count(cases)} {noun} farther out than the axes, drawn at their ends"


def _split_line(name: str, entry: Mapping[str, Any]) -> dict[str, Any]:
    """Return a line of the table of splits."""
    line: dict[str, Any] = {"split": name, "rows": entry["rows"]}
    for key in ("mean", "deviation", "least", "largest"):
        line[key] = number_text(entry[key])
    return line


def _by_error(pair: tuple[Any, Case[Any]]) -> tuple[float, str]:
    """Return the sort key of an answer and its case: the largest absolute error first."""
    answer, case = pair
    return -abs(answer.value - case.truth), case.id


def _macros() -> Any:
    """Return the macros of the template, which return HTML as `markupsafe.Markup`."""
    return environment(Path(__file__).parent).get_template("error_panels.html.j2").module
