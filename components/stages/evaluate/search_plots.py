"""Plots of the hyperparameter search for the report."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from numbers import Real
from typing import Any

from components.core.page_templates import is_finite
from components.core.svg import HEX, Plot, breadth, draw, shortened
from components.stages.evaluate.importance import varied
from components.stages.evaluate.plots import Row, best_so_far

# Where the line of a trial crosses an axis on which it has no value.
_NOT_SET = 1.14
# px between two axes
_AXIS_GAP = 46.0

# A tick: position (0-1) and text.
Ticks = list[tuple[float, str]]
# Positions (0-1) of the trials, None where a trial has no value, and the ticks.
Axis = tuple[list[float | None], Ticks]


def progress(rows: Sequence[Row], goal: str) -> Plot | None:
    """Draw the curves of the trials one after the other, and the best value so far.

    The horizontal axis counts the epochs of all trials together.

    Args:
        rows: rows of `ReportData.trials` with "curve", in the order that they were begun.
        goal: "max" or "min".

    Returns:
        The plot, or None if no trial has a curve.
    """
    curves = []
    values = []
    for row in rows:
        curve = [value for value in row.get("curve") or () if is_finite(value)]
        if curve:
            curves.append(curve)
            values.extend(curve)
    if not curves:
        return None
    best = best_so_far(values, goal)

    def paint(ax: Any) -> None:
        """Paint the curves one after the other, and the best value so far as steps."""
        start = 1
        for curve in curves:
            ax.plot(
                range(start, start + len(curve)),
                curve,
                color=HEX["accent"],
                linewidth=1,
                alpha=0.6,
                marker="o",
                markersize=3,
            )
            start += len(curve)
        ax.step(
            range(1, len(best) + 1),
            best,
            where="post",
            color=HEX["muted"],
            linewidth=1.2,
        )
        ax.set_xlabel("epochs of all trials together")
        ax.xaxis.get_major_locator().set_params(integer=True)
        ax.grid(axis="y")

    legend = [("accent", "a trial"), ("line", "best so far")]
    return Plot(draw("progress", 270, (48, 10, 10, 44), paint), legend)


def parallel(rows: Sequence[Row], goal: str, watch: str) -> Plot | None:
    """Draw parallel coordinates: an axis for each varied parameter, a line for each trial.

    The better the metric of a trial, the stronger its line.

    Args:
        rows: rows of `ReportData.trials`.
        goal: "max" or "min".
        watch: name of the monitored metric.

    Returns:
        The plot, or None if there are fewer than two trials or no parameter was varied.
    """
    # The best is painted last, on top.
    shown = sorted(
        (row for row in rows if is_finite(row.get("watch"))),
        key=lambda row: row["watch"],
        reverse=goal == "min",
    )
    params = [row.get("params") or {} for row in shown]
    paths = varied(params)
    if len(shown) < 2 or not paths:
        return None
    axes = []
    for path in paths:
        values = [trial.get(path) for trial in params]
        axes.append(_axis(values))
    metrics = [row["watch"] for row in shown]
    axes.append(_axis(metrics))
    names = [shortened(_short(path, paths), 22) for path in paths]
    names.append(shortened(watch, 22))
    missing = any(None in positions for positions, _ in axes)

    def paint(ax: Any) -> None:
        """Paint the lines of the trials, the axes and their names."""
        for number in range(len(shown)):
            _paint_trial(ax, axes, number, len(shown))
        for y, (_, ticks) in enumerate(axes):
            _paint_axis(ax, y, ticks, 1 / 1.2 if missing else 1)
        if missing:
            ax.annotate(
                "not set",
                (_NOT_SET, 0),
                xytext=(0, 14),
                textcoords="offset points",
                ha="center",
                fontsize=10,
                color=HEX["muted"],
            )
        ax.set_yticks(range(len(axes)), names, color=HEX["ink"])
        ax.set_xlim(-0.02, 1.2 if missing else 1.02)
        ax.set_ylim(len(axes) - 0.4, -0.5)
        ax.set_xticks([])
        ax.spines["bottom"].set_visible(False)

    margins = (breadth(names) + 14, 8, 6, 6)
    plot = draw("parallel", _AXIS_GAP * len(axes) + 12, margins, paint)
    return Plot(plot, [("accent", "a trial: the stronger, the better"), ("s1", "the best one")])


def _paint_trial(
    ax: Any,
    axes: Sequence[Axis],
    number: int,
    count: int,
) -> None:
    """Paint the line of one trial across all axes; the last trial is the best.

    Args:
        ax: the axes of the plot.
        axes: of the parameters and the metric.
        number: of the trial, the worst first.
        count: number of trials.
    """
    line = []
    for positions, _ in axes:
        position = positions[number]
        line.append(_NOT_SET if position is None else position)
    best = number == count - 1
    ax.plot(
        line,
        range(len(line)),
        color=HEX["s1" if best else "accent"],
        alpha=1.0 if best else 0.08 + 0.72 * (number / count) ** 2,
        linewidth=2.2 if best else 1.4,
    )


def _paint_axis(ax: Any, y: int, ticks: Ticks, end: float) -> None:
    """Paint one axis of parallel coordinates and its ticks.

    Args:
        ax: the axes of the plot.
        y: position from the top, from 0.
        ticks: of the axis.
        end: where the axis ends, as a fraction of the width.
    """
    ax.axhline(
        y,
        xmax=end,
        color=HEX["muted"],
        linewidth=1,
        alpha=0.6,
        zorder=0,
    )
    for position, text in ticks:
        ax.annotate(
            text,
            (position, y),
            xytext=(0, -12),
            textcoords="offset points",
            ha=_alignment(position),
            va="center",
            fontsize=10,
            color=HEX["muted"],
            bbox={"facecolor": HEX["surface"], "alpha": 0.75, "linewidth": 0, "pad": 1},
            zorder=4,
        )


def _alignment(position: float) -> str:
    """Return how the text of a tick is aligned, so that it stays within the axes."""
    if position < 0.05:
        return "left"
    if position > 0.95:
        return "right"
    return "center"


def importance(shares: Mapping[str, float]) -> Plot | None:
    """Draw the shares of the parameters as bars.

    Args:
        shares: path of a parameter -> share (0-1), the largest first.

    Returns:
        The plot, or None if there are no shares.
    """
    if not shares:
        return None
    names = [shortened(_short(path, list(shares))) for path in shares]
    values = list(shares.values())

    def paint(ax: Any) -> None:
        """Paint one bar for each parameter, with its share."""
        ax.barh(
            range(len(names)),
            values,
            height=0.62,
            color=HEX["accent"],
            linewidth=0,
        )
        for y, value in enumerate(values):
            ax.annotate(
                f"{value:.0%}",
                (value, y),
                xytext=(5, 0),
                textcoords="offset points",
                va="center",
                color=HEX["muted"],
            )
        ax.set_yticks(range(len(names)), names, color=HEX["ink"])
        ax.set_ylim(len(names) - 0.4, -0.6)
        ax.set_xlim(0, max(values) * 1.15 or 1)
        ax.set_xticks([])
        ax.spines["bottom"].set_visible(False)

    margins = (breadth(names) + 12, 12, 6, 6)
    return Plot(draw("importance", 26.0 * len(names) + 14, margins, paint))


def _axis(values: Sequence[Any]) -> Axis:
    """Return where values are on an axis of their own, and the ticks of the axis.

    Args:
        values: of the trials; None where a trial has no value.
    """
    present = [value for value in values if value is not None]
    if all(isinstance(value, Real) and not isinstance(value, bool) for value in present):
        return _numeric_axis(values, present)
    return _category_axis(values, present)


def _numeric_axis(values: Sequence[Any], present: Sequence[Any]) -> Axis:
    """Return the axis of numbers; a wide range is logarithmic.

    Args:
        values: of the trials; None where a trial has no value.
        present: the values that are not None.
    """
    wide = min(present) > 0 and max(present) >= 8 * min(present)
    if wide:
        scale: Callable[[float], float] = math.log
    else:
        scale = float
    low = scale(min(present))
    span = (scale(max(present)) - low) or 1

    def position(value: float) -> float:
        """Return where a value is on the axis, from 0 to 1."""
        return (scale(value) - low) / span

    positions = [None if value is None else position(value) for value in values]
    distinct = sorted(set(present))
    if len(distinct) <= 4:
        marks = distinct
    else:
        marks = [distinct[0], distinct[-1]]
    return positions, [(position(mark), f"{mark:.3g}") for mark in marks]


def _category_axis(values: Sequence[Any], present: Sequence[Any]) -> Axis:
    """Return the axis of names, which are equally far apart.

    Args:
        values: of the trials; None where a trial has no value.
        present: the values that are not None.
    """
    names = sorted({str(value) for value in present})
    last = max(1, len(names) - 1)
    position_of = {name: number / last for number, name in enumerate(names)}
    positions = [None if value is None else position_of[str(value)] for value in values]
    limit = max(3, 40 // len(names))
    ticks = [(position, shortened(name, limit)) for name, position in position_of.items()]
    return positions, ticks


def _short(path: str, paths: Sequence[str]) -> str:
    """Return the last part of a path, with the part before it where the last is not unique."""
    last = path.rpartition(".")[2]
    same = sum(other.rpartition(".")[2] == last for other in paths)
    if same == 1:
        return last
    return ".".join(path.split(".")[-2:])
