"""Panels of the report about classes: confusion matrix, metrics by class, doubtful answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from components.core.page_templates import environment
from components.metrics.selective_prediction import coverage_report
from components.tasks.base import (
    AnsweredSplit,
    Case,
    ReportPanel,
    ReportSection,
    TargetInfo,
    WorstAnswer,
    WorstAnswers,
)
from components.tasks.shared.evaluator.classification import confusion_plots
from components.tasks.shared.evaluator.classification.probability_panels import (
    ProbabilitySplit,
    probability_section,
)


class ClassificationReport:
    """What the report of evaluate shows of answers that are classes."""

    columns: Sequence[str] = (
        "accuracy",
        "precision",
        "recall",
        "macro_f1",
        "mcc",
        "log_loss",
        "ece",
        "auc",
    )

    def plot_rows(
        self, answers: Sequence[Any], cases: Sequence[Case[Any]]
    ) -> Sequence[tuple[str, str]]:
        """Return the true and the predicted class of each case."""
        pairs = zip(answers, cases, strict=True)
        return [(case.truth, answer.label) for answer, case in pairs]

    def winner_panels(
        self, answers: Sequence[Any], cases: Sequence[Case[Any]], targets: TargetInfo
    ) -> Sequence[ReportPanel]:
        """Return the confusion matrix, and the metrics of each class.

        Args:
            answers: (n,) of the winner.
            cases: (n,) of test.
            targets: of clean.
        """
        classes = targets["classes"]
        return class_panels(confusion_counts(answers, cases, classes), classes)

    def confidence_section(
        self, table: Mapping[str, Any], answers: Sequence[Any], cases: Sequence[Case[Any]]
    ) -> ReportSection | None:
        """Return accuracy against coverage, and the outcome of each stated error.

        Args:
            table: thresholds from validation.
            answers: (n,) of the winner.
            cases: (n,) of test.
        """
        if not table:
            return None
        confidence = [float(answer.probability) for answer in answers]
        correct = [truth == predicted for truth, predicted in self.plot_rows(answers, cases)]
        report = coverage_report(table, confidence, correct)
        if not report:
            return None
        return coverage_section(report)

    def probability_section(
        self, validation: AnsweredSplit, test: AnsweredSplit, targets: TargetInfo
    ) -> ReportSection:
        """Return how far the probabilities can be trusted, and the curves of all thresholds.

        Args:
            validation: answers of the winner, which fit the temperature.
            test: answers of the winner.
            targets: of clean.
        """
        classes = targets["classes"]
        return probability_section(
            ProbabilitySplit.of(validation, classes), ProbabilitySplit.of(test, classes), classes
        )

    def data_panels(self, manifest: Mapping[str, Any]) -> Sequence[ReportPanel]:
        """Return the rows of each class by split."""
        html = _macros().rows_by_split(manifest["classes"], manifest["splits"])
        return [ReportPanel("Rows by split and class", "", html)]

    def data_details(self, targets: TargetInfo) -> Sequence[tuple[str, str]]:
        """Return the names of the classes."""
        return [("classes", ", ".join(targets["classes"]))]

    def worst_answers(
        self, answers: Sequence[Any], cases: Sequence[Case[Any]], count: int
    ) -> WorstAnswers:
        """Return the wrong answers of which the winner was most certain.

        Args:
            answers: (n,) of the winner.
            cases: (n,) of test.
            count: the most that are returned.
        """
        wrong = []
        for answer, case in zip(answers, cases, strict=True):
            if answer.label != case.truth:
                wrong.append((answer, case))
        wrong.sort(key=lambda pair: (-pair[0].probability, pair[1].id))
        mistake = _macros().mistake
        return WorstAnswers(
            "Its worst mistakes",
            "Wrong, and the surest of it. Some may be mistakes of the labels.",
            [WorstAnswer(case, mistake(case.truth, answer)) for answer, case in wrong[:count]],
        )


def confusion_counts(
    answers: Sequence[Any],
    cases: Sequence[Case[Any]],
    classes: Sequence[str],
) -> list[list[int]]:
    """Return the confusion matrix.

    Args:
        answers: to the cases.
        cases: with the true classes.
        classes: names of the classes.

    Returns:
        (classes, classes) counts; rows are the truth.
    """
    index = {name: i for i, name in enumerate(classes)}
    counts = np.zeros((len(classes), len(classes)), dtype=int)
    for answer, case in zip(answers, cases, strict=True):
        counts[index[case.truth], index[answer.label]] += 1
    matrix: list[list[int]] = counts.tolist()
    return matrix


def class_panels(matrix: Sequence[Sequence[int]], classes: Sequence[str]) -> list[ReportPanel]:
    """Return the panels of a confusion matrix: the matrix, and the metrics of each class.

    Args:
        matrix: (classes, classes) counts; rows are the truth.
        classes: names of the classes.
    """
    plot = confusion_plots.confusion_matrix(matrix, classes)
    table = _macros().by_class(_per_class(matrix, classes), _confused(matrix, classes))
    return [
        ReportPanel("Confusion matrix", "counts; colour is the share of the true class", plot),
        ReportPanel("By class", "", table),
    ]


def coverage_section(report: Mapping[str, Any]) -> ReportSection:
    """Return the section about answers that may say "not sure".

    Args:
        report: of `selective_prediction.coverage_report`.
    """
    macros = _macros()
    panels = []
    curve = confusion_plots.coverage_curve(report["curve"])
    if curve:
        note = "among the cases that are answered, the surest first"
        panels.append(ReportPanel("Accuracy against coverage", note, curve))
    panels.append(ReportPanel("", "", macros.coverage(report["shares"]), id="coverage"))
    return ReportSection('If it may say "not sure"', macros.abstention_note(), panels)


def _macros() -> Any:
    """Return the macros of the template, which return HTML as `markupsafe.Markup`."""
    return environment(Path(__file__).parent).get_template("answer_panels.html.j2").module


def _per_class(matrix: Sequence[Sequence[int]], classes: Sequence[str]) -> list[dict[str, Any]]:
    """Return precision, recall and F1 of each class; None where there is nothing to count."""
    lines = []
    for index, name in enumerate(classes):
        correct = matrix[index][index]
        actual = sum(matrix[index])
        predicted = sum(line[index] for line in matrix)
        lines.append(
            {
                "name": name,
                "cases": actual,
                "precision": _quotient(correct, predicted),
                "recall": _quotient(correct, actual),
                "f1": _quotient(2 * correct, actual + predicted),
            }
        )
    return lines


def _quotient(part: int, whole: int) -> float | None:
    if whole:
        return part / whole
    return None


def _confused(
    matrix: Sequence[Sequence[int]], classes: Sequence[str], limit: int = 5
) -> list[dict[str, Any]]:
    """Return the pairs of classes that are confused most often.

    With two classes there are none: the matrix shows them already.
    """
    if len(classes) < 3:
        return []
    pairs: list[dict[str, Any]] = []
    for y, truth in enumerate(classes):
        for x, predicted in enumerate(classes):
            cases = matrix[y][x]
            if x != y and cases:
                pairs.append({"truth": truth, "predicted": predicted, "cases": cases})
    return sorted(pairs, key=lambda pair: -pair["cases"])[:limit]
