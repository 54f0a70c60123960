"""The report's panels about numbers, from answers to test cases."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from components.core.svg import Plot
from components.tasks.base import Case
from components.tasks.shared.evaluator.regression.number_report import (
    RegressionReport,
    answered_cases,
    coverage_groups,
    verdict,
)

REPORT = RegressionReport()
INFO = {"center": [3932.8], "scale": [3989.4], "range": [326.0, 18823.0]}


@dataclass(frozen=True)
class Answer:
    """An answer with or without an interval."""

    value: float
    low: float | None = None
    high: float | None = None
    coverage: float | None = None


def cases(truths: Sequence[float]) -> list[Case[Any]]:
    return [Case(f"id{number:06}", None, float(truth), {}) for number, truth in enumerate(truths)]


def answers(values: Sequence[float], margin: float | None = None) -> list[Answer]:
    if margin is None:
        return [Answer(float(value)) for value in values]
    return [Answer(float(value), value - margin, value + margin, 0.9) for value in values]


def elements(plot: Plot) -> int:
    return len(re.findall(r"<\w", plot.svg))


def test_plots_of_dvc_get_ranges_of_true_values() -> None:
    truths = np.arange(100.0)
    rows = REPORT.plot_rows(answers([*truths[:99], 1e12]), cases(truths))
    assert rows[0] == ("01: below 9.9", "01: below 9.9")
    assert rows[-1] == ("10: from 89.1", "10: from 89.1")
    assert len({actual for actual, _ in rows}) == 10
    assert REPORT.plot_rows(answers([1.0]), cases([2.0])) == [("02: from 2", "01: below 2")]


@pytest.mark.parametrize("scale", [1.0, 1e12, 1e-9, -1.0])
@pytest.mark.parametrize("count", [1, 2, 300, 3000])
def test_panels_are_drawn_for_any_size_and_number(count: int, scale: float) -> None:
    rng = np.random.default_rng(count)
    truths = scale * np.exp(rng.normal(0, 1, count))
    values = truths + scale * rng.normal(0, 0.2, count)
    panels = REPORT.winner_panels(answers(values, abs(scale)), cases(truths), INFO)
    assert [panel.title for panel in panels] == [
        "Answers against true values",
        "Errors by answer",
        "Size of the errors",
        "Calibration of the intervals",
    ]
    for panel in panels:
        assert isinstance(panel.content, Plot)
        assert "nan" not in panel.content.svg.lower()
        assert 'role="img" aria-label="' in panel.content.svg


@pytest.mark.parametrize("value", [5.0, 0.0, -1e12, 1e-9])
def test_equal_answers_and_truths_are_drawn(value: float) -> None:
    truths = np.full(100, value)
    panels = REPORT.winner_panels(answers(truths, 0.0), cases(truths), INFO)
    assert len(panels) == 4
    assert "size; their mean is 0" in panels[2].note


def test_a_hundred_thousand_cases_give_few_elements() -> None:
    rng = np.random.default_rng(0)
    truths = rng.normal(0, 1, 100_000)
    panels = REPORT.winner_panels(answers(truths + 0.1, 0.2), cases(truths), INFO)
    for panel in panels:
        assert isinstance(panel.content, Plot)
        assert elements(panel.content) < 250
        assert len(panel.content.svg) < 150_000


def test_the_plots_have_the_colors_of_the_page() -> None:
    panels = REPORT.winner_panels(answers(range(9), 1), cases(range(9)), INFO)
    colors = set()
    for panel in panels:
        assert isinstance(panel.content, Plot)
        colors |= set(re.findall(r"#[0-9a-f]{6}", panel.content.svg))
    assert not colors


def test_answers_far_out_are_counted_in_the_notes() -> None:
    truths = np.random.default_rng(0).normal(100, 10, 1000)
    values = truths + np.random.default_rng(1).normal(0, 1, 1000)
    values[0] = 1e9
    panels = REPORT.winner_panels(answers(values), cases(truths), INFO)
    assert len(panels) == 3
    for panel in panels:
        assert panel.note.endswith("1 case is farther out than the axes, drawn at their ends")


def test_coverage_is_that_of_all_answers_and_of_groups() -> None:
    truths = np.arange(1000.0)
    errors = np.where(truths % 10 == 0, 50.0, 1.0)
    # The large answers are covered always, the small ones nine times of ten.
    errors[truths >= 500] = 1.0
    answered = answered_cases(answers(truths + errors, 10), cases(truths))
    rows = coverage_groups(answered)
    assert (rows[0].name, rows[0].covered, rows[0].width) == ("all answers", 0.95, "20")
    assert len(rows) == 9
    assert [row.covered for row in rows[6:]] == [1.0, 1.0, 1.0]
    assert rows[1].name.startswith("2 to ")
    for row in rows:
        assert row.low <= row.covered <= row.high


def test_bounds_of_coverage_are_exact() -> None:
    row = coverage_groups(answered_cases(answers([0.0] * 20, 1), cases([0.0] * 18 + [9, 9])))[0]
    assert (row.low, row.high) == (pytest.approx(0.6830, abs=1e-4), pytest.approx(0.9877, abs=1e-4))


def test_equal_answers_are_in_one_group() -> None:
    values = np.repeat([1.0, 2.0], [600, 400])
    rows = coverage_groups(answered_cases(answers(values, 1), cases(values)))
    assert [row.name for row in rows] == ["all answers", "1", "2"]


def test_groups_of_answers_that_look_equal_are_numbered() -> None:
    values = 1e12 + np.linspace(0, 1, 1000)
    rows = coverage_groups(answered_cases(answers(values, 1), cases(values)))
    assert rows[1].name == "part 1 of 8"


def test_answers_without_an_interval_do_not_count_for_coverage() -> None:
    mixed = [*answers(range(5)), *answers(range(5), 1)]
    truths = [*range(5), 9, *range(1, 5)]
    (row,) = coverage_groups(answered_cases(mixed, cases(truths)))
    assert row.covered == 0.8
    panel = REPORT.winner_panels(mixed, cases(truths), INFO)[-1]
    assert "they state 90\u202f% and hold 80\u202f% of the true values" in panel.note


def test_worst_are_the_largest_errors() -> None:
    worst = REPORT.worst_answers(answers([1, 50, 3, 4], 2), cases([2, 10, 43, 4]), 3)
    assert [row.case.id for row in worst.answers] == ["id000001", "id000002", "id000000"]
    assert worst.answers[0].verdict == (
        "true 10, answered 50 (40 too high; 90\u202f% interval 48 to 52)"
    )
    assert REPORT.worst_answers([], [], 3).answers == []


def test_a_verdict_names_the_direction_of_the_error() -> None:
    assert verdict(Answer(1204.0), 326.0) == "true 326, answered 1,204 (878 too high)"
    assert verdict(Answer(-5.5), 0.25) == "true 0.25, answered −5.5 (5.75 too low)"
    assert verdict(Answer(7.0), 7.0) == "true 7, answered 7 (exact)"


def test_there_is_no_section_about_confidence() -> None:
    assert REPORT.confidence_section({}, [], []) is None


def manifest(edges: Sequence[float], rows: int = 4) -> dict[str, Any]:
    entry = {
        "rows": rows,
        "mean": 3.25,
        "deviation": 1.5,
        "least": -1e12,
        "largest": 5.0,
        "counts": [1, 3],
    }
    empty = {**entry, "rows": 0, "counts": [0, 0]}
    return {"edges": edges, "splits": {"train": entry, "test": entry, "unlabelled": empty}}


def test_targets_are_drawn_and_listed_by_split() -> None:
    plot, table = REPORT.data_panels(manifest([0.0, 2.5, 5.0]))
    assert isinstance(plot.content, Plot)
    assert plot.content.legend == [("s0", "train"), ("s1", "test")]
    html = str(table.content)
    assert "<th>train</th><td>4</td><td>3.25</td><td>1.5</td>" in html
    assert "−1\u202f×\u202f10¹²" in html and "unlabelled" not in html


def test_targets_without_a_range_are_only_listed() -> None:
    (table,) = REPORT.data_panels(manifest([2.0, 2.0, 2.0]))
    assert table.title == "Targets by split"


def test_the_foot_of_the_page_has_the_range_of_train() -> None:
    assert REPORT.data_details(INFO) == [
        ("target", "326 to 18,823 in train, mean 3,933, standard deviation 3,989")
    ]
