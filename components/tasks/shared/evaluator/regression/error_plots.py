"""Plots of answers that are numbers, in the style of the report (`components.core.svg`).

The axes are drawn in positions from 0 to 1, so that values of any size can be shown. A plot has a
bounded number of elements, however many cases there are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from components.core.number_axis import NumberAxis, Values
from components.core.svg import HEX, SERIES, Plot, breadth, draw, percent_axis

# Up to so many cases each one is a mark; more are counted in cells.
_MOST_MARKS = 400
_COLUMNS = 52
_ROWS = 38
_SHADES = 6
_FAINTEST = 0.14
_MOST_BARS = 41
_BAND_PARTS = 40
_ROW_HEIGHT = 26.0
_BAND_COLOR = "s1"
_LINE: Mapping[str, Any] = {
    "color": HEX["ink"],
    "linewidth": 1,
    "linestyle": "--",
    "alpha": 0.8,
}
# Height of an axis beside that of the highest bar.
_HEADROOM = 1.08
# px of the tick labels and the title below a plot
_BOTTOM = 44.0
# px of the title beside a vertical axis
_TITLE = 26.0


@dataclass(frozen=True)
class CoverageRow:
    """How many truths are within their intervals, in a group of answers.

    Args:
        name: of the group.
        covered: share of the truths within their intervals, 0-1.
        low: lower bound of the share.
        high: upper bound of the share.
        width: of the intervals, as text.
    """

    name: str
    covered: float
    low: float
    high: float
    width: str


@dataclass(frozen=True)
class ErrorBand:
    """Errors that intervals expect, in parts of the axis of answers.

    Args:
        edges: (k + 1,) positions of the parts.
        lows: (k,) least expected error of each part.
        highs: (k,) largest expected error of each part.
    """

    edges: Values
    lows: Values
    highs: Values


def answers_by_truth(axis: NumberAxis, truths: Values, answers: Values) -> Plot:
    """Draw the answers against the truths, with the line where both are equal.

    Args:
        axis: of both.
        truths: (n,).
        answers: (n,).
    """
    x = axis.positions(truths)
    y = axis.positions(answers)

    def paint(ax: Any) -> None:
        """Paint the cases, and the diagonal above them."""
        _paint_cases(ax, x, y)
        ax.plot([0, 1], [0, 1], **_LINE)
        _set_axes(ax, axis, "true value", axis, "answer")

    svg = draw("answers by truth", 340, _margins(axis), paint)
    return Plot(svg, [_cases_legend(len(truths))])


def errors_by_answer(
    across: NumberAxis,
    up: NumberAxis,
    answers: Values,
    errors: Values,
    expected: ErrorBand | None,
) -> Plot:
    """Draw the errors against the answers, with the band in which the intervals expect them.

    Args:
        across: axis of the answers.
        up: axis of the errors, with 0 on it.
        answers: (n,).
        errors: (n,) answer minus truth.
        expected: the band; None where no answer states an interval.
    """
    x = across.positions(answers)
    y = up.positions(errors)

    def paint(ax: Any) -> None:
        """Paint the band, the cases and the line of no error."""
        if expected is not None:
            _paint_band(ax, expected, up)
        _paint_cases(ax, x, y)
        ax.axhline(_zero(up), **_LINE)
        _set_axes(ax, across, "answer", up, "answer − true value")

    legend = [_cases_legend(len(answers))]
    if expected is not None:
        legend.append((_BAND_COLOR, "where the intervals expect it"))
    return Plot(draw("errors by answer", 340, _margins(up), paint), legend)


def error_histogram(axis: NumberAxis, errors: Values) -> Plot:
    """Draw how many cases have errors of a size. Errors beyond the axis are in the outer bars.

    Args:
        axis: of the errors, with 0 on it.
        errors: (n,) answer minus truth.
    """
    bars = int(np.clip(2 * np.sqrt(len(errors)), 5, _MOST_BARS))
    counts, edges = np.histogram(axis.positions(errors), bins=bars, range=(0, 1))
    up = NumberAxis(0, _HEADROOM * float(counts.max()))

    def paint(ax: Any) -> None:
        """Paint the bars, and the line of no error."""
        ax.bar(
            edges[:-1],
            up.positions(counts.astype(float)),
            0.92 / bars,
            align="edge",
            color=HEX["accent"],
            alpha=0.75,
            linewidth=0,
        )
        ax.axvline(_zero(axis), **_LINE)
        _set_axes(ax, axis, "answer − true value", up, "cases")

    return Plot(draw("errors", 290, _margins(up), paint))


def coverage_rows(rows: Sequence[CoverageRow], stated: float) -> Plot:
    """Draw the share of the truths within their intervals, one line for each group of answers.

    The dotted line is the share that the intervals state.

    Args:
        rows: from top to bottom.
        stated: share, 0-1.
    """
    names = [row.name for row in rows]
    widths = [row.width for row in rows]
    lowest = min(stated, *(row.low for row in rows))

    def paint(ax: Any) -> None:
        """Paint the bounds and the share of each group, with the width of its intervals."""
        for y, row in enumerate(rows):
            _paint_coverage(ax, y, row, is_whole=y == 0)
        ax.axvline(stated, color=HEX["baseline"], linewidth=1.4, linestyle=":")
        ax.set_yticks(range(len(rows)), names, color=HEX["ink"])
        ax.set_ylim(len(rows) - 0.4, -0.6)
        ax.set_xlim(max(0.0, lowest - 0.02), 1.005)
        ax.set_xlabel("true values within the interval")
        percent_axis(ax.xaxis)
        ax.grid(axis="x")

    margins = (breadth(names) + 14, breadth(widths) + 16, 6, _BOTTOM)
    svg = draw("coverage of intervals", _ROW_HEIGHT * len(rows) + 6 + _BOTTOM, margins, paint)
    return Plot(svg, [("baseline", "share that the intervals state")])


def split_histogram(axis: NumberAxis, shares: Mapping[str, Values]) -> Plot:
    """Draw the distribution of the targets of each split as steps.

    Args:
        axis: of the targets.
        shares: split -> (k,) share of its rows in each of k equal parts of the axis.
    """
    colors = {split: SERIES[number % len(SERIES)] for number, split in enumerate(shares)}
    # in percent
    up = NumberAxis(0, 100 * _HEADROOM * max(float(values.max()) for values in shares.values()))

    def paint(ax: Any) -> None:
        """Paint one outline for each split; the first one is filled."""
        for number, (split, values) in enumerate(shares.items()):
            edges = np.linspace(0, 1, len(values) + 1)
            heights = up.positions(100 * values)
            color = HEX[colors[split]]
            if number == 0:
                ax.stairs(heights, edges, color=color, fill=True, alpha=0.18, linewidth=0)
            ax.stairs(heights, edges, color=color, linewidth=1.6)
        _set_axes(ax, axis, "target", up, "% of the rows of a split")

    legend = [(colors[split], split) for split in shares]
    return Plot(draw("targets by split", 250, _margins(up), paint), legend)


def band(across: NumberAxis, answers: Values, lows: Values, highs: Values) -> ErrorBand | None:
    """Return the band of the intervals: of each part of the axis the median of their ends.

    Args:
        across: axis of the answers.
        answers: (n,).
        lows: (n,) lower ends; NaN where an answer states none.
        highs: (n,) upper ends; likewise.

    Returns:
        The band, or None where no answer states an interval.
    """
    known = np.isfinite(lows) & np.isfinite(highs)
    if not known.any():
        return None
    positions = across.positions(answers[known])
    # An error is answer minus truth, so the upper end of the interval is the least error.
    least = (answers - highs)[known]
    largest = (answers - lows)[known]
    parts = np.clip((positions * _BAND_PARTS).astype(int), 0, _BAND_PARTS - 1)
    filled = np.unique(parts)
    medians = np.empty((2, len(filled)))
    for number, part in enumerate(filled):
        rows = parts == part
        medians[:, number] = (np.median(least[rows]), np.median(largest[rows]))
    # A part without answers continues the part below it.
    span = np.arange(filled[0], filled[-1] + 1)
    sources = np.searchsorted(filled, span, side="right") - 1
    edges = np.arange(filled[0], filled[-1] + 2) / _BAND_PARTS
    return ErrorBand(edges, medians[0, sources], medians[1, sources])


def _paint_band(ax: Any, expected: ErrorBand, up: NumberAxis) -> None:
    """Paint the band as steps.

    Args:
        up: axis of the errors.
    """
    ax.stairs(
        up.positions(expected.highs),
        expected.edges,
        baseline=up.positions(expected.lows),
        color=HEX[_BAND_COLOR],
        fill=True,
        alpha=0.2,
        linewidth=0,
    )


def _zero(axis: NumberAxis) -> float:
    """Return the position of 0 on an axis."""
    return float(axis.positions(np.zeros(1))[0])


def _paint_cases(ax: Any, x: Values, y: Values) -> None:
    """Paint each case as a mark, or many cases as cells that are the stronger, the more they have.

    Args:
        x: (n,) positions.
        y: (n,) positions.
    """
    if len(x) <= _MOST_MARKS:
        ax.plot(
            x,
            y,
            linestyle="",
            marker="o",
            markersize=4.5,
            markeredgewidth=0,
            color=HEX["accent"],
            alpha=0.5,
        )
        return
    counts, _, _ = np.histogram2d(
        x,
        y,
        bins=(_COLUMNS, _ROWS),
        range=((0, 1), (0, 1)),
    )
    shares = np.log1p(counts) / np.log1p(counts.max())
    shades = np.ceil(shares * _SHADES).astype(int)
    for shade in range(1, _SHADES + 1):
        alpha = _FAINTEST + (1 - _FAINTEST) * (shade - 1) / (_SHADES - 1)
        _paint_cells(ax, shades == shade, alpha)


def _paint_cells(ax: Any, cells: NDArray[np.bool_], alpha: float) -> None:
    """Paint cells of one shade as one element.

    Args:
        cells: (columns, rows) those that are painted.
        alpha: opacity.
    """
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path

    corners = np.array([(0, 0), (1, 0), (1, 1), (0, 1), (0, 0)])
    painted = np.argwhere(cells)
    if not len(painted):
        return
    vertices = (painted[:, None, :] + corners[None, :, :]).reshape(-1, 2)
    codes = [Path.MOVETO, Path.LINETO, Path.LINETO, Path.LINETO, Path.CLOSEPOLY]
    path = Path(vertices / np.array(cells.shape), codes * len(painted))
    ax.add_patch(PathPatch(path, facecolor=HEX["accent"], alpha=alpha, linewidth=0))


def _paint_coverage(ax: Any, y: int, row: CoverageRow, *, is_whole: bool) -> None:
    """Paint the bounds, the share and the width of one group.

    Args:
        y: position from the top, from 0.
        is_whole: whether the group is that of all answers.
    """
    color = HEX["accent"]
    ax.plot([row.low, row.high], [y, y], color=color, linewidth=2, alpha=0.5)
    ax.plot([row.covered], [y], marker="D" if is_whole else "o", color=color, markersize=8)
    ax.annotate(
        row.width,
        (1, y),
        xycoords=("axes fraction", "data"),
        xytext=(10, 0),
        textcoords="offset points",
        va="center",
        color=HEX["muted"],
    )


def _set_axes(
    ax: Any,
    across: NumberAxis,
    across_name: str,
    up: NumberAxis,
    up_name: str,
) -> None:
    """Set limits, ticks and titles of both axes."""
    positions, texts = across.ticks()
    ax.set_xticks(positions, texts)
    ax.set_xlabel(across.title(across_name))
    positions, texts = up.ticks()
    ax.set_yticks(positions, texts)
    ax.set_ylabel(up.title(up_name))
    ax.set_xlim(0, 1)
    ax.set_ylim(0, 1)
    ax.grid()


def _margins(up: NumberAxis) -> tuple[float, float, float, float]:
    """Return the margins of a plot, which fit the ticks of its vertical axis."""
    _, texts = up.ticks()
    # Half of the last tick of the horizontal axis is beyond it.
    return breadth(texts) + _TITLE, 22, 10, _BOTTOM


def _cases_legend(count: int) -> tuple[str, str]:
    """Return the entry of the legend about cases."""
    if count <= _MOST_MARKS:
        return "accent", "a case"
    return "accent", "cases: the stronger, the more"
