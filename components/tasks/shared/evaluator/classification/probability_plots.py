"""Plots of probabilities for the report, in its style (`components.core.svg`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from components.core.svg import HEX, SERIES, Plot, draw, percent_axis
from components.metrics.calibration import ReliabilityBin
from components.metrics.exact_tests import share_interval
from components.metrics.threshold_curves import ThresholdCurve

# Points of a curve, at equal steps along its axes.
_POINTS = 200
# Chance that a share is beyond a bound of its interval, each side.
_TAIL = 0.025
_HEIGHT = 300.0
_MARGINS = (66.0, 20.0, 10.0, 44.0)


def reliability(before: Sequence[ReliabilityBin], after: Sequence[ReliabilityBin]) -> Plot:
    """Draw the accuracy of each bin against its mean probability, before and after scaling.

    Args:
        before: bins of the answers.
        after: bins of the answers with scaled probabilities.
    """

    def paint(ax: Any) -> None:
        """Paint the diagonal, the bins with their intervals, and the bins after scaling."""
        _paint_diagonal(ax)
        for one in before:
            _paint_interval(ax, one)
        _paint_bins(ax, before, "accent", hollow=False)
        _paint_bins(ax, after, "s1", hollow=True)
        ax.set_xlabel("stated probability")
        ax.set_ylabel("right")
        _set_unit_axes(ax)

    legend = [("accent", "as answered · 原始"), ("s1", "after scaling · 缩放后")]
    return Plot(draw("reliability", _HEIGHT, _MARGINS, paint), legend)


def _paint_interval(ax: Any, one: ReliabilityBin) -> None:
    """Paint the exact interval of the accuracy of a bin (Clopper and Pearson 1934)."""
    ax.plot(
        [one.confidence, one.confidence],
        share_interval(one.right, one.cases, _TAIL),
        color=HEX["accent"],
        linewidth=2,
        alpha=0.4,
    )


def _paint_bins(ax: Any, bins: Sequence[ReliabilityBin], color: str, hollow: bool) -> None:
    """Paint a mark for each bin."""
    face = "surface" if hollow else color
    ax.plot(
        [one.confidence for one in bins],
        [one.accuracy for one in bins],
        linestyle="",
        marker="o",
        markersize=7,
        markeredgewidth=1.6,
        color=HEX[color],
        markerfacecolor=HEX[face],
        clip_on=False,
        zorder=3,
    )


def roc(curves: Sequence[tuple[str, ThresholdCurve]]) -> Plot:
    """Draw the ROC curves.

    Args:
        curves: name of a class, and its curve; at most as many as there are colors.
    """

    def paint(ax: Any) -> None:
        """Paint the diagonal, which is guessing, and a line for each class."""
        _paint_diagonal(ax)
        for (_, curve), color in zip(curves, SERIES, strict=False):
            points = _thinned(curve)
            x = np.concatenate(([0.0], curve.false_positive_rate[points]))
            y = np.concatenate(([0.0], curve.recall[points]))
            ax.plot(x, y, color=HEX[color], linewidth=1.8, clip_on=False)
        ax.set_xlabel("false positive rate")
        ax.set_ylabel("recall")
        _set_unit_axes(ax)

    areas = [curve.area for _, curve in curves]
    return Plot(draw("roc", _HEIGHT, _MARGINS, paint), _legend(curves, areas))


def precision_recall(curves: Sequence[tuple[str, ThresholdCurve]]) -> Plot:
    """Draw the precision-recall curves.

    Args:
        curves: name of a class, and its curve; at most as many as there are colors.
    """

    def paint(ax: Any) -> None:
        """Paint a line for each class."""
        for (_, curve), color in zip(curves, SERIES, strict=False):
            points = _thinned(curve)
            ax.step(
                curve.recall[points],
                curve.precision[points],
                where="pre",
                color=HEX[color],
                linewidth=1.8,
                clip_on=False,
            )
        ax.set_xlabel("recall")
        ax.set_ylabel("precision")
        _set_unit_axes(ax)

    averages = [curve.average_precision for _, curve in curves]
    plot = draw("precision recall", _HEIGHT, _MARGINS, paint)
    return Plot(plot, _legend(curves, averages))


def _legend(
    curves: Sequence[tuple[str, ThresholdCurve]], values: Sequence[float]
) -> list[tuple[str, str]]:
    """Return the color of each class with its name and a value."""
    legend = []
    for (name, _), color, value in zip(curves, SERIES, values, strict=False):
        legend.append((color, f"{name} {value:.3f}"))
    return legend


def _thinned(curve: ThresholdCurve) -> NDArray[np.int64]:
    """Return the positions of at most `_POINTS` points of a curve, with its first and last."""
    way = curve.recall + curve.false_positive_rate
    positions = np.searchsorted(way, np.linspace(way[0], way[-1], _POINTS))
    return np.unique(np.minimum(positions, len(way) - 1))


def _paint_diagonal(ax: Any) -> None:
    """Paint a dotted line from the lower left to the upper right corner."""
    ax.plot([0, 1], [0, 1], color=HEX["muted"], linewidth=1, linestyle=":")


def _set_unit_axes(ax: Any) -> None:
    """Let both axes go from 0 to 100%."""
    ax.set_xlim(0, 1)
    ax.set_ylim(0, 1)
    percent_axis(ax.xaxis)
    percent_axis(ax.yaxis)
    ax.grid()
