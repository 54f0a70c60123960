"""Panels of the report about what a model does with the columns of a table."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from components.core.number_axis import NumberAxis, Values, axis_of, plot_text
from components.core.page_templates import count as shown_count
from components.core.svg import HEX, SERIES, Plot, breadth, draw, shortened
from components.tasks.base import ReportPanel, ReportSection
from components.tasks.shared.evaluator.tables.column_importance import (
    ColumnImportance,
    Columns,
    Dependence,
    Error,
    Importances,
    Outputs,
    Predict,
    partial_dependence,
    permutation_importance,
)

_MOST_BARS = 20
_MOST_CURVES = 4
_MOST_OUTPUTS = 4
_ROW_HEIGHT = 26.0
_BOTTOM = 44.0
# Most characters of a name, and px of it beside a plot and below one
_NAME = 52
_BESIDE = 150.0
_BELOW = 300.0


def inspection_section(
    predict: Predict,
    columns: Columns,
    truths: Sequence[Any],
    error: Error,
    outputs: Outputs,
    seed: int,
    *,
    error_name: str,
    output_name: str,
    error_text: Callable[[float], str] = plot_text,
) -> ReportSection | None:
    """Return the section about what the answers depend on; None where no column varies.

    Args:
        predict: the model.
        columns: n rows of test.
        truths: (n,) of the rows.
        error: of answers, the smaller the better.
        outputs: numbers of answers, of which the first four are drawn.
        seed: of every random choice.
        error_name: of the error, such as "RMSE".
        output_name: of the outputs, such as "answer" or "probability".
        error_text: writes a difference of errors.
    """
    importances = permutation_importance(predict, columns, truths, error, seed)
    if not importances.columns:
        return None
    curves = []
    for column in importances.columns[:_MOST_CURVES]:
        curve = partial_dependence(predict, columns, column.name, outputs, seed)
        if curve is not None and column.growth > 0:
            curves.append(curve)
    note = (
        "Columns that say the same share their importance. A curve mixes a value with rows "
        "that may never have it."
    )
    panels = [importance_panel(importances, error_name, error_text)]
    panels.extend(dependence_panels(curves, output_name))
    return ReportSection("What its answers depend on", note, panels)


def importance_panel(
    importances: Importances, error_name: str, error_text: Callable[[float], str] = plot_text
) -> ReportPanel:
    """Return the bars of the most important columns.

    Args:
        importances: with a column at least.
        error_name: of the error.
        error_text: writes a difference of errors.
    """
    shown = importances.columns[:_MOST_BARS]
    hidden = len(importances.columns) - len(shown)
    notes = [
        f"by how much the {error_name} grows when a column is shuffled, on "
        f"{shown_count(importances.rows)} test cases; the line spans three shuffles"
    ]
    if hidden:
        notes.append(f"{shown_count(hidden)} columns with less are not shown")
    if importances.unmeasured:
        notes.append(f"{shown_count(importances.unmeasured)} columns were not measured")
    plot = importance_bars(shown, error_text)
    return ReportPanel("Importance of the columns", "; ".join(notes), plot)


def importance_bars(columns: Sequence[ColumnImportance], text: Callable[[float], str]) -> Plot:
    """Draw the importance of columns as bars, with the range of the shuffles.

    Args:
        columns: from top to bottom.
        text: writes an importance.
    """
    names = [_fitted(column.name, _BESIDE) for column in columns]
    texts = [text(column.growth) for column in columns]
    # Relative to the largest, importances of any size can be drawn.
    unit = max(max(abs(column.least), abs(column.largest)) for column in columns) or 1.0

    def paint(ax: Any) -> None:
        """Paint one bar for each column."""
        for y, column in enumerate(columns):
            ends = (column.least / unit, column.largest / unit)
            width = column.growth / unit
            ax.barh(
                [y],
                [width],
                height=0.62,
                color=HEX["accent"],
                alpha=0.75,
                linewidth=0,
            )
            ax.plot(ends, [y, y], color=HEX["ink"], linewidth=1.2)
            ax.annotate(
                texts[y],
                (1, y),
                xycoords=("axes fraction", "data"),
                xytext=(8, 0),
                textcoords="offset points",
                va="center",
                color=HEX["muted"],
            )
        ax.axvline(0, color=HEX["muted"], linewidth=1)
        ax.set_yticks(range(len(names)), names, color=HEX["ink"])
        ax.set_ylim(len(names) - 0.4, -0.6)
        ax.set_xlim(min(0.0, *(column.least / unit for column in columns)), 1.0)
        ax.set_xticks([])
        ax.spines["bottom"].set_visible(False)

    margins = (breadth(names) + 14, breadth(texts) + 14, 6, 6)
    height = _ROW_HEIGHT * len(columns) + 12
    return Plot(draw("importance of columns", height, margins, paint))


def dependence_panels(curves: Sequence[Dependence], output_name: str) -> list[ReportPanel]:
    """Return a panel for each column. All have the same axis of outputs.

    Args:
        curves: of the columns.
        output_name: title of the axis.
    """
    if not curves:
        return []
    means: list[Values] = []
    for curve in curves:
        means.extend(_shown_outputs(curve).values())
    axis = axis_of(np.concatenate(means))
    panels = []
    for number, curve in enumerate(curves):
        name = f"dependence {number}"
        if curve.kind == "name":
            plot = _dependence_on_names(name, curve, axis, output_name)
        else:
            plot = _dependence_on_numbers(name, curve, axis, output_name)
        title = f"{output_name} by {_fitted(curve.name, _BELOW)}"
        title = title[:1].upper() + title[1:]
        panels.append(ReportPanel(title, "the mean if all test cases had this value", plot))
    return panels


def _dependence_on_numbers(name: str, curve: Dependence, up: NumberAxis, output_name: str) -> Plot:
    """Draw the mean outputs against a column of numbers or times.

    Args:
        name: of the plot.
        curve: of the column.
        up: axis of the outputs.
        output_name: title of the axis.
    """
    is_time = curve.kind == "time"
    across = axis_of(curve.numbers, may_be_logarithmic=not is_time)
    outputs = _shown_outputs(curve)
    x = across.positions(curve.numbers)
    _, texts = up.ticks()
    title = _fitted(curve.name, _BELOW)
    if is_time:
        ticks = _date_ticks(across)
    else:
        ticks = across.ticks()
        title = across.title(title)

    def paint(ax: Any) -> None:
        """Paint one line for each output."""
        for color, values in zip(SERIES, outputs.values(), strict=False):
            y = up.positions(values)
            ax.plot(x, y, color=HEX[color], linewidth=1.8, marker="o", markersize=4)
        ax.set_xticks(*ticks)
        ax.set_xlabel(title)
        _set_outputs(ax.yaxis, up)
        ax.set_ylabel(up.title(output_name))
        ax.set_xlim(0, 1)
        ax.set_ylim(0, 1)
        ax.grid()

    svg = draw(
        name,
        240,
        (breadth(texts) + 26, 24, 10, _BOTTOM),
        paint,
    )
    return Plot(svg, _legend(outputs))


def _dependence_on_names(
    name: str, curve: Dependence, across: NumberAxis, output_name: str
) -> Plot:
    """Draw the mean outputs of the names of a column, one line for each name.

    Args:
        name: of the plot.
        curve: of the column.
        across: axis of the outputs.
        output_name: title of the axis.
    """
    names = [_fitted(value, _BESIDE) for value in curve.values]
    outputs = _shown_outputs(curve)

    def paint(ax: Any) -> None:
        """Paint a mark for each name and output."""
        for color, values in zip(SERIES, outputs.values(), strict=False):
            ax.plot(
                across.positions(values),
                range(len(names)),
                color=HEX[color],
                linestyle="",
                marker="o",
                markersize=8,
            )
        ax.set_yticks(range(len(names)), names, color=HEX["ink"])
        ax.set_ylim(len(names) - 0.4, -0.6)
        ax.set_xlim(0, 1)
        _set_outputs(ax.xaxis, across)
        ax.set_xlabel(across.title(output_name))
        ax.grid()

    height = _ROW_HEIGHT * len(names) + 6 + _BOTTOM
    svg = draw(
        name,
        height,
        (breadth(names) + 14, 24, 6, _BOTTOM),
        paint,
    )
    return Plot(svg, _legend(outputs))


def _shown_outputs(curve: Dependence) -> Mapping[str, Values]:
    """Return the outputs that are drawn, so that their colors can be told apart."""
    return dict(list(curve.outputs.items())[:_MOST_OUTPUTS])


def _set_outputs(axis: Any, outputs: NumberAxis) -> None:
    """Set the ticks of the axis of outputs."""
    positions, texts = outputs.ticks()
    axis.set_ticks(positions, texts)


def _legend(outputs: Mapping[str, Values]) -> list[tuple[str, str]]:
    """Return the legend, which a single output does not need."""
    if len(outputs) < 2:
        return []
    return list(zip(SERIES, outputs, strict=False))


def _fitted(name: Any, width: float) -> str:
    """Return a name fit to stand in a plot, not wider than some px."""
    limit = _NAME
    while breadth([shortened(name, limit)]) > width:
        limit -= 1
    return shortened(name, limit)


def _date_ticks(axis: NumberAxis) -> tuple[list[float], list[str]]:
    """Return positions and texts of dates on an axis of seconds since 1970."""
    positions = [0.1, 0.37, 0.63, 0.9]
    texts = []
    for position in positions:
        seconds = axis.low + position * (axis.high - axis.low)
        # The ends of an axis may be beyond the years of `datetime`.
        texts.append(str(np.datetime64(round(seconds), "s"))[:-9])
    return positions, texts
