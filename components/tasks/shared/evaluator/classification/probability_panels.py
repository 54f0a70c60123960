"""Panels of the report about probabilities: calibration, curves and thresholds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from components.core.page_templates import environment
from components.metrics.calibration import (
    WIDTH_BINS,
    expected_calibration_error,
    reliability_bins,
)
from components.metrics.classification import log_losses
from components.metrics.temperature_scaling import fit_temperature, scale
from components.metrics.threshold_curves import ThresholdCurve, threshold_curve, threshold_rows
from components.tasks.base import AnsweredSplit, ReportPanel, ReportSection
from components.tasks.shared.evaluator.classification import probability_plots

# Thresholds of the table for two classes.
_THRESHOLDS = [step / 10 for step in range(1, 10)]
# Curves that are drawn, those of the classes that are told apart worst.
_MOST_CURVES = 8


@dataclass(frozen=True)
class ProbabilitySplit:
    """The probabilities that a model states for a split, and what is true.

    Args:
        scores: (n, c) probabilities.
        truth: (n,) indices of the true classes.
    """

    scores: NDArray[np.float64]
    truth: NDArray[np.int64]

    @classmethod
    def of(cls, split: AnsweredSplit, classes: Sequence[str]) -> ProbabilitySplit:
        """Return the probabilities of answers, with the classes in a given order."""
        index = {name: number for number, name in enumerate(classes)}
        scores = []
        for answer in split.answers:
            scores.append([answer.probabilities.get(name, 0.0) for name in classes])
        truth = [index[case.truth] for case in split.cases]
        return cls(np.array(scores, dtype=np.float64), np.array(truth, dtype=np.int64))

    @property
    def confidence(self) -> NDArray[np.float64]:
        """Return (n,) the probability of the most probable class."""
        highest: NDArray[np.float64] = self.scores.max(axis=1)
        return highest

    @property
    def right(self) -> NDArray[np.bool_]:
        """Return (n,) whether the most probable class is the true one."""
        correct: NDArray[np.bool_] = self.scores.argmax(axis=1) == self.truth
        return correct

    def at(self, temperature: float) -> ProbabilitySplit:
        """Return the same split with its probabilities at a temperature."""
        return ProbabilitySplit(scale(self.scores, temperature), self.truth)

    def calibration(self) -> dict[str, float]:
        """Return the expected calibration error and the log loss: {"error", "loss"}."""
        probability = self.scores[np.arange(len(self.truth)), self.truth]
        return {
            "error": expected_calibration_error(self.confidence, self.right),
            "loss": float(log_losses(probability).mean()),
        }


def probability_section(
    validation: ProbabilitySplit, test: ProbabilitySplit, classes: Sequence[str]
) -> ReportSection:
    """Return the section about probabilities.

    Args:
        validation: fits the temperature.
        test: is reported.
        classes: names of the classes.
    """
    temperature = fit_temperature(validation.scores, validation.truth)
    scaled = test.at(temperature)
    panels = [
        ReportPanel(
            "Reliability diagram",
            f"share of right answers by stated probability, {WIDTH_BINS} bins of equal width, "
            "with 95 % intervals; the dotted line is perfect",
            probability_plots.reliability(
                reliability_bins(test.confidence, test.right),
                reliability_bins(scaled.confidence, scaled.right),
            ),
            zh=f"可靠性图：按模型给出的概率分成 {WIDTH_BINS} 个等宽区间，纵轴是各区间的正确率及其 "
            "95% 区间，虚线表示完全校准",
        ),
        _temperature_panel(temperature, validation, test),
        *_curve_panels(test, classes),
    ]
    if len(classes) == 2:
        panels.append(_threshold_panel(validation, test, classes[1]))
    return ReportSection(
        "Probabilities",
        "How far the stated probabilities can be trusted, and what other thresholds would bring.",
        panels,
        zh="概率：模型给出的概率有多可信，以及换用其他阈值会怎样。",
    )


def _temperature_panel(
    temperature: float, validation: ProbabilitySplit, test: ProbabilitySplit
) -> ReportPanel:
    """Return the calibration before and after temperature scaling, for both splits."""
    lines = []
    for name, zh, split in (("validation", "验证集", validation), ("test", "测试集", test)):
        before = split.calibration()
        after = split.at(temperature).calibration()
        lines.append({"name": name, "zh": zh, "before": before, "after": after})
    return ReportPanel(
        "Temperature scaling",
        f"Fitted on validation: the logits are divided by {temperature:.3g}. Test only reports. "
        "The answers of the service are not scaled.",
        _template().temperature(lines),
        id="temperature",
        zh=f"温度缩放：在验证集上拟合，logits 除以 {temperature:.3g}；测试集只用于报告。"
        "服务给出的概率没有经过缩放。",
    )


def _curve_panels(test: ProbabilitySplit, classes: Sequence[str]) -> list[ReportPanel]:
    """Return the ROC curves and the precision-recall curves; none where no curve is defined."""
    numbers = range(len(classes)) if len(classes) > 2 else range(1, len(classes))
    curves: list[tuple[str, ThresholdCurve]] = []
    for number in numbers:
        curve = threshold_curve(test.truth == number, test.scores[:, number])
        if curve:
            curves.append((classes[number], curve))
    if not curves:
        return []
    shown = sorted(curves, key=lambda named: named[1].average_precision)[:_MOST_CURVES]
    kind = "each class against the rest"
    kind_zh = "每个类别对其余类别"
    if len(classes) == 2:
        kind = f"positive: {classes[1]}"
        kind_zh = f"正类：{classes[1]}"
    elif len(shown) < len(curves):
        kind += f", the {_MOST_CURVES} with the lowest average precision"
        kind_zh += f"，只画平均精确率最低的 {_MOST_CURVES} 个"
    return [
        ReportPanel(
            "ROC curve",
            f"{kind}; area under the curve in the legend",
            probability_plots.roc(shown),
            zh=f"ROC 曲线：{kind_zh}；图例中是曲线下面积",
        ),
        ReportPanel(
            "Precision-recall curve",
            f"{kind}; average precision in the legend",
            probability_plots.precision_recall(shown),
            zh=f"精确率-召回率曲线：{kind_zh}；图例中是平均精确率",
        ),
    ]


def _threshold_panel(
    validation: ProbabilitySplit, test: ProbabilitySplit, positive: str
) -> ReportPanel:
    """Return what a threshold for the second of two classes brings on both splits."""
    rows = []
    for split in (validation, test):
        rows.append(threshold_rows(split.truth == 1, split.scores[:, 1], _THRESHOLDS))
    return ReportPanel(
        "Thresholds",
        f"An answer is called {positive} from this probability on. "
        "Choose on validation; test only reports.",
        _template().thresholds(list(zip(*rows, strict=True))),
        id="thresholds",
        zh=f"阈值表：概率达到阈值即判为 {positive}。请按验证集选择阈值，测试集只用于报告。",
    )


def _template() -> Any:
    """Return the macros of the template, which return HTML as `markupsafe.Markup`."""
    return environment(Path(__file__).parent).get_template("probability_panels.html.j2").module
