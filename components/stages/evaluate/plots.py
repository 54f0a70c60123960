"""Plots of the report: inline SVG with real text, colored by the CSS variables of the page."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from components.core.page_templates import is_finite
from components.core.svg import (
    HEX,
    SERIES,
    Plot,
    breadth,
    draw,
    number_axis,
    percent_axis,
    shortened,
)
from components.stages.evaluate.metric_scale import MetricScale
from components.stages.evaluate.refits import RefitResult

Row = Mapping[str, Any]

# px right of the axes for a share, such as 84.9%
_VALUE_MARGIN = 52
# px between the names beside a trade-off plot
_NAME_GAP = 17.0
_LEADER_LINE = {
    "arrowstyle": "-",
    "color": HEX["muted"],
    "linewidth": 0.7,
    "alpha": 0.45,
    "shrinkA": 2,
    "shrinkB": 5,
    "relpos": (0, 0.5),
}


def leaderboard(rows: Sequence[Row], scale: MetricScale) -> Plot | None:
    """Draw the test metric of each candidate with its interval; better is to the right.

    The dotted line is the best baseline.

    Args:
        rows: leaderboard rows, best first.
        scale: of the metric.

    Returns:
        The plot, or None if no row has the metric.
    """
    shown = [row for row in rows if is_finite(scale.of(row))]
    if not shown:
        return None
    values = [scale.of(row) for row in shown]
    worst = _worst_drawn(values, scale)
    names = [shortened(row["name"]) for row in shown]
    beyond = [value for value in values if _is_beyond(value, worst, scale)]
    baselines = [scale.of(row) for row in shown if row.get("baseline")]
    baselines.sort(key=scale.rank)

    def paint(ax: Any) -> None:
        """Paint the candidates from top to bottom, and the line of the best baseline."""
        for y, row in enumerate(shown):
            _paint_candidate(ax, y, row, worst, scale)
        for value in baselines[:1]:
            ax.axvline(value, color=HEX["baseline"], linewidth=1, linestyle=":")
        ax.set_yticks(range(len(shown)), names, color=HEX["ink"])
        ax.set_ylim(len(shown) - 0.4, -0.6)
        _set_ticks(ax.xaxis, scale)
        if scale.sign < 0:
            ax.invert_xaxis()
        ax.set_xlim(left=worst if beyond else None)
        ax.grid(axis="x")

    height = 28.0 * len(shown) + 40
    texts = [_short_value(value, scale) for value in values]
    right = _VALUE_MARGIN if scale.metric.is_share else max(_VALUE_MARGIN, breadth(texts) + 16)
    margins = (breadth(names) + 12, right, 8, 30)
    return Plot(draw("leaderboard", height, margins, paint))


def _paint_candidate(
    ax: Any,
    y: int,
    row: Row,
    worst: float,
    scale: MetricScale,
) -> None:
    """Paint the interval, the mark and the value of one candidate.

    Args:
        ax: the axes.
        y: position from the top, from 0.
        row: of the leaderboard.
        worst: value at which the axis starts.
        scale: of the metric.
    """
    value = scale.of(row)
    color = HEX[_color(row)]
    interval = (row.get("test_interval") or {}).get(scale.metric.name)
    low, high = interval or (value, value)
    if _is_beyond(value, worst, scale):
        ax.plot(
            [worst],
            [y],
            marker="<",
            color=color,
            markersize=7,
            clip_on=False,
        )
    else:
        ends = [low, high]
        # The end towards worse values stays within the axes.
        if scale.sign > 0:
            ends[0] = max(low, worst)
        else:
            ends[1] = min(high, worst)
        ax.plot(
            ends,
            [y, y],
            color=color,
            linewidth=2,
            alpha=0.5,
            solid_capstyle="round",
        )
        ax.plot([value], [y], marker=_marker(row), color=color, markersize=8)
    ax.annotate(
        _short_value(value, scale),
        (1, y),
        xycoords=("axes fraction", "data"),
        xytext=(8, 0),
        textcoords="offset points",
        va="center",
        weight=_weight(row),
    )


def tradeoff(
    rows: Sequence[Row], scale: MetricScale, cost: Callable[[Row], Any], unit: str
) -> Plot | None:
    """Draw the test metric against a cost on a logarithmic axis, with the name of each candidate.

    Better is above. Candidates that are far worse than the others are left out.

    Args:
        rows: leaderboard rows.
        scale: of the metric.
        cost: returns the cost of a row; a row without a positive cost is left out.
        unit: title of the cost axis.

    Returns:
        The plot, or None if it would show fewer than two candidates.
    """
    shown = _comparable(rows, scale, cost)
    if len(shown) < 2:
        return None
    names = [shortened(row["name"]) for row in shown]
    values = [scale.of(row) for row in shown]
    top = 12.0
    bottom = 46.0
    height = max(200.0, _NAME_GAP * len(shown))

    def paint(ax: Any) -> None:
        """Paint the candidates, with their names spread over the height of the right margin."""
        ax.set_xscale("log")
        best = values[0]
        worst = values[-1]
        margin = max(0.08 * abs(best - worst), 0.01 * scale.near(best))
        lower = worst - scale.sign * margin
        upper = best + scale.sign * margin
        ax.set_ylim(lower, upper)
        wanted = [(upper - value) / (upper - lower) * height for value in values]
        positions = _spread(wanted, _NAME_GAP, height)
        for row, name, position in zip(shown, names, positions, strict=True):
            point = (cost(row), scale.of(row))
            _paint_tradeoff(ax, row, name, point, 1 - position / height)
        _log_ticks(ax, [cost(row) for row in shown])
        ax.set_xlabel(unit)
        _set_ticks(ax.yaxis, scale)
        if scale.metric.is_share:
            # The margin may reach beyond 100%, where no value can be.
            least, most = sorted((lower, upper))
            ticks = ax.get_yticks()
            ax.set_yticks([tick for tick in ticks if least <= tick <= min(most, 1.0)])
        ax.grid()

    margins = (50, min(breadth(names) + 22, 200), top, bottom)
    return Plot(draw(f"tradeoff {unit}", height + top + bottom, margins, paint))


def _comparable(rows: Sequence[Row], scale: MetricScale, cost: Callable[[Row], Any]) -> list[Row]:
    """Return the rows with a metric near the best and a positive cost, best first.

    Args:
        rows: of the leaderboard.
        scale: of the metric.
        cost: returns the cost of a row.
    """
    measured = [row for row in rows if is_finite(scale.of(row))]
    worst = _worst_drawn([scale.of(row) for row in measured], scale)
    shown = []
    for row in measured:
        value = cost(row)
        beyond = _is_beyond(scale.of(row), worst, scale)
        if not beyond and is_finite(value) and value > 0:
            shown.append(row)
    return sorted(shown, key=lambda row: scale.rank(scale.of(row)))


def _paint_tradeoff(
    ax: Any, row: Row, name: str, point: tuple[float, float], name_y: float
) -> None:
    """Paint the mark of one candidate and its name, joined by a thin line.

    Args:
        ax: the axes.
        row: of the leaderboard.
        name: of the candidate, fit for a plot.
        point: cost and metric.
        name_y: height of the name, as a fraction of the axes.
    """
    cost, value = point
    color = _color(row)
    if color == "muted":
        text_color = "ink"
    else:
        text_color = color
    ax.plot(
        [cost],
        [value],
        marker=_marker(row),
        color=HEX[color],
        markersize=8,
        clip_on=False,
        zorder=3,
    )
    ax.annotate(
        name,
        point,
        xytext=(1.05, name_y),
        textcoords="axes fraction",
        va="center",
        arrowprops=_LEADER_LINE,
        color=HEX[text_color],
        weight=_weight(row),
    )


def curves(rows: Sequence[Row], metrics: Mapping[str, str], title: str) -> Plot | None:
    """Draw metrics over training, with one color for each arm.

    Args:
        rows: rows of `ReportData.curves`.
        metrics: key of a row -> line style ("-" or "--").
        title: title of the plot.

    Returns:
        The plot, or None if no row has one of the metrics.
    """
    arms = list(dict.fromkeys(str(row.get("arm", "")) for row in rows))
    has_epochs = all(is_finite(row.get("epoch")) for row in rows)
    if has_epochs:
        step = "epoch"
    else:
        step = "step"
    colors = {arm: SERIES[number % len(SERIES)] for number, arm in enumerate(arms)}
    lines = []
    for arm in arms:
        for metric, style in metrics.items():
            points = _curve_points(rows, arm, step, metric)
            if points:
                lines.append((points, style, colors[arm]))
    if not lines:
        return None

    def paint(ax: Any) -> None:
        """Paint one line for each arm and metric."""
        for points, style, color in lines:
            solid = style == "-"
            ax.plot(
                *zip(*points, strict=True),
                linestyle=style,
                color=HEX[color],
                linewidth=1.8 if solid else 1.3,
                marker="o" if solid else "",
                markersize=4,
            )
        ax.set_xlabel(step)
        ax.xaxis.get_major_locator().set_params(integer=True)
        ax.grid(axis="y")

    legend = [(colors[arm], arm) for arm in arms if arm]
    return Plot(draw(title, 270, (48, 10, 10, 44), paint), legend)


def learning_curve(results: Sequence[RefitResult], scale: MetricScale) -> Plot | None:
    """Draw a metric on validation, with its interval, over the number of train rows.

    Args:
        results: the smallest share first.
        scale: of the metric, which has intervals.

    Returns:
        The plot, or None if no result has the metric.
    """
    name = scale.metric.name
    shown = [result for result in results if is_finite(result.metrics.get(name))]
    if not shown:
        return None
    rows = [result.train_rows for result in shown]

    def paint(ax: Any) -> None:
        """Paint the values, joined by a line, and a bar for each interval."""
        values = [result.metrics[name] for result in shown]
        ax.plot(rows, values, color=HEX["accent"], linewidth=1.8, marker="o", markersize=5)
        for result in shown:
            if result.interval:
                count = result.train_rows
                ax.plot([count, count], result.interval, color=HEX["accent"], alpha=0.4)
        ax.set_xscale("log")
        ax.set_xticks(rows, [f"{count:,}" for count in rows])
        ax.minorticks_off()
        ax.set_xlabel("train rows")
        _set_ticks(ax.yaxis, scale)
        ax.grid(axis="y")

    return Plot(draw("learning curve", 270, (56, 24, 10, 44), paint))


def _curve_points(
    rows: Sequence[Row], arm: str, step: str, metric: str
) -> list[tuple[float, float]]:
    """Return (step, value) of a metric in the rows of an arm.

    Args:
        rows: of `ReportData.curves`.
        arm: name of the arm.
        step: key of the step: "epoch" or "step".
        metric: key of the metric.
    """
    points = []
    for row in rows:
        if str(row.get("arm", "")) != arm:
            continue
        if is_finite(row.get(metric)) and is_finite(row.get(step)):
            points.append((row[step], row[metric]))
    return points


def trials(rows: Sequence[Row], goal: str) -> Plot | None:
    """Draw the monitored metric of each trial by architecture, and the best so far.

    Args:
        rows: rows of `ReportData.trials`, in the order that they were run.
        goal: "max" or "min".

    Returns:
        The plot, or None if no trial has a value.
    """
    shown = [row for row in rows if is_finite(row.get("watch"))]
    if not shown:
        return None
    architectures = sorted({architecture(row) for row in shown})
    colors = {name: SERIES[i % len(SERIES)] for i, name in enumerate(architectures)}
    longest = max((_epochs(row) for row in shown), default=0)
    best = best_so_far([row["watch"] for row in shown], goal)

    def paint(ax: Any) -> None:
        """Paint one mark for each trial, and the best value so far as steps."""
        ax.step(
            range(1, len(best) + 1),
            best,
            where="post",
            color=HEX["muted"],
            linewidth=1,
            alpha=0.8,
        )
        for number, row in enumerate(shown, start=1):
            color = HEX[colors[architecture(row)]]
            complete = _epochs(row) >= longest
            ax.plot(
                [number],
                [row["watch"]],
                marker="o",
                markersize=8,
                color=color,
                markerfacecolor=color if complete else HEX["surface"],
                markeredgewidth=1.6,
                zorder=3,
            )
        ax.set_xlabel("trial, in the order run")
        ax.set_xlim(0.5, len(shown) + 0.5)
        ax.xaxis.get_major_locator().set_params(integer=True)
        ax.grid(axis="y")

    legend = [(colors[name], name) for name in architectures if name]
    if any(_epochs(row) < longest for row in shown):
        legend.append(("hollow", "stopped early"))
    legend.append(("line", "best so far"))
    return Plot(draw("trials", 270, (48, 10, 10, 44), paint), legend)


def best_so_far(values: Sequence[float], goal: str) -> list[float]:
    """Return for each value the best of it and the values before it.

    Args:
        values: in the order that they were reached.
        goal: "max" or "min".
    """
    if goal == "min":
        return list(itertools.accumulate(values, min))
    return list(itertools.accumulate(values, max))


def _epochs(row: Row) -> int:
    """Return how many epochs a trial took."""
    return row.get("epochs") or 0


def lengths(histogram: Row, percentiles: Mapping[str, float]) -> Plot | None:
    """Draw the lengths of the encoded rows, with the percentiles marked.

    Args:
        histogram: {"edges": n + 1 lengths, "counts": n}.
        percentiles: name -> length, e.g. {"p50": 41, "p95": 128}.

    Returns:
        The plot, or None if the histogram is empty or malformed.
    """
    edges = list(histogram.get("edges") or ())
    counts = list(histogram.get("counts") or ())
    if not counts or len(edges) != len(counts) + 1 or not max(counts):
        return None
    widths = [0.92 * (right - left) for left, right in itertools.pairwise(edges)]

    def paint(ax: Any) -> None:
        """Paint the bars of the histogram, and the percentiles above them."""
        ax.bar(
            edges[:-1],
            counts,
            widths,
            align="edge",
            color=HEX["accent"],
            alpha=0.75,
            linewidth=0,
        )
        _paint_percentiles(ax, percentiles, edges[0], edges[-1])
        ax.set_ylim(0, max(counts) * 1.18)
        ax.set_xlabel("tokens per row")
        ax.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        ax.grid(axis="y")

    return Plot(draw("lengths", 240, (56, 10, 6, 44), paint))


def _paint_percentiles(
    ax: Any, percentiles: Mapping[str, float], first: float, last: float
) -> None:
    """Paint a dotted line and a name for each percentile between the outer edges.

    Args:
        ax: the axes.
        percentiles: name -> length.
        first: the lower edge of the first bar.
        last: the upper edge of the last bar.
    """
    marks: list[tuple[float, str]] = []
    for name, length in percentiles.items():
        if is_finite(length) and first <= length <= last:
            marks.append((length, name))
    span = last - first
    previous = -math.inf
    line = 0
    for length, name in sorted(marks):
        # A name that would touch the one before is set one line lower.
        close = length - previous < 0.1 * span
        if close:
            line = line + 1
        else:
            line = 0
        previous = length
        ax.axvline(length, color=HEX["muted"], linewidth=1, linestyle=":")
        ax.annotate(
            shortened(name),
            (length, 1),
            xycoords=("data", "axes fraction"),
            xytext=(4, -10 - 14 * line),
            textcoords="offset points",
            fontsize=11,
            color=HEX["muted"],
        )


def architecture(trial: Row) -> str:
    """Return the architecture of a trial; empty if its search has no such choice."""
    params = trial.get("params") or {}
    return str(params.get("architecture", ""))


def _color(row: Row) -> str:
    """Return the name of a candidate's color."""
    if row.get("winner"):
        return "accent"
    if row.get("baseline"):
        return "baseline"
    return "muted"


def _marker(row: Row) -> str:
    """Return the marker of a candidate, as matplotlib names it."""
    if row.get("baseline"):
        return "d"
    return "o"


def _weight(row: Row) -> str:
    """Return the font weight of a candidate's name."""
    if row.get("winner"):
        return "bold"
    return "normal"


def _worst_drawn(values: Sequence[float], scale: MetricScale) -> float:
    """Return where an axis starts; infinitely far if it shows all values.

    Values that are much worse than the best are cut off, so that they do not compress the others.

    Args:
        values: of a metric.
        scale: of the metric.
    """
    ranked = sorted(values, key=scale.rank)
    if ranked:
        gap = scale.near(ranked[0])
        near = [value for value in ranked if abs(value - ranked[0]) <= gap]
        if len(near) < len(ranked):
            return near[-1] - scale.sign * gap / 10
    return -scale.sign * math.inf


def _is_beyond(value: float, worst: float, scale: MetricScale) -> bool:
    """Return whether a value is worse than where the axis starts."""
    return scale.sign * value < scale.sign * worst


def _set_ticks(axis: Any, scale: MetricScale) -> None:
    """Write the ticks of the metric's axis in its unit."""
    if scale.metric.is_share:
        percent_axis(axis)
    else:
        number_axis(axis)


def _short_value(value: float, scale: MetricScale) -> str:
    """Return a value without spaces, for a narrow margin."""
    return "".join(scale.write(value).split())


def _spread(wanted: Sequence[float], gap: float, room: float) -> list[float]:
    """Return ascending positions at least `gap` apart and at most `room`.

    They are as near to the wanted positions as one pass in each direction brings them.

    Args:
        wanted: ascending positions in px.
        gap: in px.
        room: in px.
    """
    positions = list(wanted)
    for index in range(1, len(positions)):
        positions[index] = max(positions[index], positions[index - 1] + gap)
    limit = room
    for index in range(len(positions) - 1, -1, -1):
        positions[index] = min(positions[index], limit)
        limit = positions[index] - gap
    return positions


def _log_ticks(ax: Any, values: Sequence[float]) -> None:
    """Set ticks at 1, 2 and 5 of each power of ten, or at the powers alone if these are many.

    Args:
        ax: the axes, whose horizontal axis is logarithmic.
        values: that are shown, all positive.
    """
    low = min(values) / 1.6
    high = max(values) * 1.6
    first = math.floor(math.log10(low))
    last = math.ceil(math.log10(high))
    marks = []
    for power in range(first, last + 1):
        for base in (1, 2, 5):
            mark = base * 10.0**power
            if low <= mark <= high:
                marks.append(mark)
    if len(marks) > 6:
        marks = [mark for mark in marks if math.log10(mark).is_integer()]
    ax.set_xticks(marks, [f"{mark:.10g}" for mark in marks])
    ax.minorticks_off()
    ax.set_xlim(low, high)
