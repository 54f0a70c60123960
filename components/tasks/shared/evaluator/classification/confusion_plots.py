"""Plots of classification for the report, in its style (`components.core.svg`)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from components.core.svg import HEX, WIDTH, Plot, breadth, draw, percent_axis, shortened


def confusion_matrix(counts: Sequence[Sequence[int]], classes: Sequence[str]) -> Plot:
    """Draw the confusion matrix as a heat map.

    The color of a cell is its share of the true class. The number is the count.

    Args:
        counts: (classes, classes); rows are the truth, columns the prediction.
        classes: names of the classes.
    """
    from matplotlib.patches import Rectangle

    size = len(classes)
    names = [shortened(name, 14) for name in classes]
    left = breadth(names) + 40
    cell = min(120.0, (WIDTH - left - 8) / size)
    slanted = breadth(names) > cell - 4
    if slanted:
        top = breadth(names) * 0.75 + 34
    else:
        top = 46
    center = (WIDTH - left - 8 - cell * size) / 2

    def paint(ax: Any) -> None:
        """Paint a tinted square for each cell, with the class names around them."""
        background = Rectangle(
            (0, 0),
            size,
            size,
            facecolor=HEX["accent"],
            alpha=0.06,
            linewidth=0,
        )
        ax.add_patch(background)
        for y, x in _nonzero_cells(counts):
            _paint_cell(ax, y, x, counts[y], cell)
        ax.set_xlim(0, size)
        ax.set_ylim(size, 0)
        _paint_class_names(ax, names, slanted, cell)
        _paint_axis_title(ax, "predicted", (2, top - 2), 0)
        _paint_axis_title(ax, "truth", (14 - left, -2), 90)
        for spine in ax.spines.values():
            spine.set_visible(False)

    margins = (left + center, center + 8, top, 6)
    return Plot(draw("confusion", cell * size + top + 6, margins, paint))


def _nonzero_cells(counts: Sequence[Sequence[int]]) -> Iterator[tuple[int, int]]:
    """Yield row and column of each cell that counts something."""
    for y, line in enumerate(counts):
        for x, count in enumerate(line):
            if count:
                yield y, x


def _paint_cell(
    ax: Any,
    y: int,
    x: int,
    line: Sequence[int],
    cell: float,
) -> None:
    """Paint one cell of the confusion matrix.

    Args:
        line: counts of the true class.
        cell: edge of the cell in px; a small cell gets no number.
    """
    from matplotlib.patches import Rectangle

    count = line[x]
    share = count / sum(line)
    square = Rectangle(
        (x + 0.02, y + 0.02),
        0.96,
        0.96,
        facecolor=HEX["accent"],
        alpha=share,
        linewidth=0,
    )
    ax.add_patch(square)
    if cell < 16:
        return
    text = f"{count:,}"
    if share > 0.55:
        color = "on-accent"
    else:
        color = "ink"
    ax.text(
        x + 0.5,
        y + 0.5,
        text,
        ha="center",
        va="center",
        color=HEX[color],
        fontsize=min(15.0, cell * 0.36, cell * 1.5 / len(text)),
    )


def _paint_class_names(
    ax: Any,
    names: Sequence[str],
    slanted: bool,
    cell: float,
) -> None:
    """Paint the class names above and to the left of the confusion matrix."""
    ticks = [index + 0.5 for index in range(len(names))]
    ax.set_xticks(
        ticks,
        names,
        color=HEX["ink"],
        rotation=45 if slanted else 0,
        ha="left" if slanted else "center",
        rotation_mode="anchor",
    )
    ax.set_yticks(ticks, names, color=HEX["ink"])
    ax.tick_params(labelsize=min(12.0, cell * 0.95))
    ax.xaxis.tick_top()


def _paint_axis_title(
    ax: Any,
    text: str,
    offset: tuple[float, float],
    rotation: int,
) -> None:
    """Paint the title of an axis at an offset in px from the upper left corner."""
    ax.annotate(
        text,
        (0, 1),
        xycoords="axes fraction",
        xytext=offset,
        textcoords="offset points",
        rotation=rotation,
        va="top",
        color=HEX["muted"],
    )


def coverage_curve(rows: Sequence[Mapping[str, float]]) -> Plot | None:
    """Draw the accuracy among the questions that are answered against the share of them.

    Args:
        rows: {"coverage", "accuracy"}, fractions 0-1.

    Returns:
        The plot, or None if it would have fewer than two points.
    """
    if len(rows) < 2:
        return None

    def paint(ax: Any) -> None:
        """Paint accuracy against coverage as one line."""
        ax.plot(
            [row["coverage"] for row in rows],
            [row["accuracy"] for row in rows],
            color=HEX["accent"],
            linewidth=1.8,
            marker="o",
            markersize=3,
        )
        ax.set_xlim(0, 1.02)
        ax.set_xlabel("share of the test cases that are answered")
        percent_axis(ax.xaxis)
        percent_axis(ax.yaxis)
        ax.grid()

    return Plot(draw("coverage", 240, (50, 10, 10, 44), paint))
