"""The report's panels about classes, from answers to test cases."""

from __future__ import annotations

from components.core.svg import Plot
from components.metrics.selective_prediction import abstention_table
from components.tasks.base import Case
from components.tasks.shared.evaluator.classification.answer_panels import (
    ClassificationReport,
    confusion_counts,
)
from components.tasks.shared.evaluator.classification.evaluator import Answer

REPORT = ClassificationReport()
CLASSES = ["a", "b", "<i>c</i>"]


def answer(label: str, probability: float) -> Answer:
    """Return an answer."""
    return Answer(label=label, probability=probability, probabilities={label: probability})


ANSWERS = [answer("a", 0.9), answer("b", 0.8), answer("a", 0.7), answer("b", 0.95)]
TRUTHS = ["a", "b", "<i>c</i>", "a"]
CASES = [Case(f"id{number}", None, truth, {}) for number, truth in enumerate(TRUTHS)]


def test_rows_of_the_matrix_are_the_truth() -> None:
    assert confusion_counts(ANSWERS, CASES, CLASSES) == [[1, 1, 0], [0, 1, 0], [1, 0, 0]]
    assert REPORT.plot_rows(ANSWERS, CASES)[2] == ("<i>c</i>", "a")


def test_panels_are_the_matrix_and_the_table_with_what_is_mixed_up() -> None:
    matrix, table = REPORT.winner_panels(ANSWERS, CASES, {"classes": CLASSES})
    assert isinstance(matrix.content, Plot)
    html = str(table.content)
    assert "Most often mixed up" in html
    assert "&lt;i&gt;c&lt;/i&gt;" in html and "<i>c" not in html
    assert "<td>50.0</td>" in html


def test_two_classes_have_no_table_of_what_is_mixed_up() -> None:
    rows = slice(0, 2)
    _, table = REPORT.winner_panels(ANSWERS[rows], CASES[rows], {"classes": CLASSES[:2]})
    assert "mixed up" not in str(table.content)


def test_worst_are_the_surest_of_the_wrong() -> None:
    worst = REPORT.worst_answers(ANSWERS, CASES, 12)
    assert [row.case.id for row in worst.answers] == ["id3", "id2"]
    assert worst.answers[1].verdict == (
        "is <b>&lt;i&gt;c&lt;/i&gt;</b>, was called <b>a</b> with 70.0\u202f%"
    )
    assert len(REPORT.worst_answers(ANSWERS, CASES, 1).answers) == 1


def test_the_section_about_confidence_needs_a_table_of_thresholds() -> None:
    assert REPORT.confidence_section({}, ANSWERS, CASES) is None
    table = abstention_table([0.9, 0.8], [True, True])
    section = REPORT.confidence_section(table, ANSWERS, CASES)
    assert section is not None
    curve, shares = section.panels
    assert isinstance(curve.content, Plot) and shares.id == "coverage"
    assert "no threshold can promise it" in str(shares.content)
    assert "<code>serve.abstain</code>" in section.note


def test_rows_are_counted_by_split_and_class() -> None:
    manifest = {"classes": ["a", "b"], "splits": {"train": {"a": 3, "b": 1}, "test": {"a": 2}}}
    (panel,) = REPORT.data_panels(manifest)
    html = str(panel.content)
    assert "75.0\u202f%" in html and "<th>4</th><th>2</th>" in html
    assert REPORT.data_details(manifest) == [("classes", "a, b")]
