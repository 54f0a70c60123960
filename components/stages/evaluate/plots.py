"""The report's plots, as inline SVG whose text is text and whose colors are the page's CSS variables."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from numbers import Real
from typing import Any, TypeGuard

from components.stages.evaluate.svg import HEX, SERIES, WIDTH, Plot, breadth, draw, label

Row = Mapping[str, Any]


def leaderboard(rows: Sequence[Row]) -> Plot | None:
    """Test accuracy of every candidate with its interval; the dotted line is the best baseline.

    Args:
        rows: leaderboard rows, best first.
    """
    shown = [row for row in rows if known(_accuracy(row))]
    if not shown:
        return None
    floor, names = _floor([_accuracy(row) for row in shown]), [label(row["name"]) for row in shown]

    def paint(ax: Any) -> None:
        for y, row in enumerate(shown):
            value, colour = _accuracy(row), HEX[_colour(row)]
            low, high = (row.get("test_interval") or {}).get("accuracy") or (value, value)
            if value < floor:
                ax.plot([floor], [y], marker="<", color=colour, markersize=7, clip_on=False)
            else:
                ax.plot(
                    [max(low, floor), high],
                    [y, y],
                    color=colour,
                    linewidth=2,
                    alpha=0.5,
                    solid_capstyle="round",
                )
                ax.plot([value], [y], marker=_marker(row), color=colour, markersize=8)
            ax.annotate(
                f"{value:.1%}",
                (1, y),
                xycoords=("axes fraction", "data"),
                xytext=(8, 0),
                textcoords="offset points",
                va="center",
                weight="bold" if row.get("winner") else "normal",
            )
        for value in sorted(_accuracy(row) for row in shown if row.get("baseline"))[-1:]:
            ax.axvline(value, color=HEX["baseline"], linewidth=1, linestyle=":")
        ax.set_yticks(range(len(shown)), names, color=HEX["ink"])
        ax.set_ylim(len(shown) - 0.4, -0.6)
        _percent(ax.xaxis)
        ax.set_xlim(left=floor if any(_accuracy(row) < floor for row in shown) else None)
        ax.grid(axis="x")

    return Plot(
        draw("leaderboard", 28.0 * len(shown) + 40, (breadth(names) + 12, 52, 8, 30), paint)
    )


def tradeoff(rows: Sequence[Row], of: Callable[[Row], Any], unit: str) -> Plot | None:
    """Test accuracy against a cost on a logarithmic axis, every candidate named; those far below the others are left out.

    Args:
        rows: leaderboard rows.
        of: the cost of a row, or something that is no positive number.
        unit: what the axis says.
    """
    floor = _floor([_accuracy(row) for row in rows if known(_accuracy(row))])
    shown = sorted(
        (
            row
            for row in rows
            if known(_accuracy(row)) and _accuracy(row) >= floor and known(of(row)) and of(row) > 0
        ),
        key=_accuracy,
        reverse=True,
    )
    if len(shown) < 2:
        return None
    names, values = [label(row["name"]) for row in shown], [_accuracy(row) for row in shown]
    top, bottom = 12.0, 46.0
    room = max(200.0, 17.0 * len(shown))

    def paint(ax: Any) -> None:
        ax.set_xscale("log")
        margin = max(0.08 * (values[0] - values[-1]), 0.002)
        low, high = values[-1] - margin, values[0] + margin
        ax.set_ylim(low, high)
        places = _spread([(high - value) / (high - low) * room for value in values], 17.0, room)
        for row, name, value, place in zip(shown, names, values, places, strict=True):
            ax.plot(
                [of(row)],
                [value],
                marker=_marker(row),
                color=HEX[_colour(row)],
                markersize=8,
                clip_on=False,
                zorder=3,
            )
            leader = {
                "arrowstyle": "-",
                "color": HEX["muted"],
                "linewidth": 0.7,
                "alpha": 0.45,
                "shrinkA": 2,
                "shrinkB": 5,
                "relpos": (0, 0.5),
            }
            said = {
                "color": HEX["ink" if _colour(row) == "muted" else _colour(row)],
                "weight": "bold" if row.get("winner") else "normal",
            }
            ax.annotate(
                name,
                (of(row), value),
                xytext=(1.05, 1 - place / room),
                textcoords="axes fraction",
                va="center",
                arrowprops=leader,
                **said,
            )
        _log_ticks(ax, [of(row) for row in shown])
        ax.set_xlabel(unit)
        _percent(ax.yaxis)
        ax.grid()

    return Plot(
        draw(
            f"tradeoff {unit}",
            room + top + bottom,
            (50, min(breadth(names) + 22, 200), top, bottom),
            paint,
        )
    )


def confusion(counts: Sequence[Sequence[int]], classes: Sequence[str]) -> Plot:
    """The confusion matrix as a heat map: color is the share of the true class, the number is the count.

    Args:
        counts: (classes, classes); rows are the truth, columns the prediction.
        classes: their names.
    """
    from matplotlib.patches import Rectangle

    size, names = len(classes), [label(name, 14) for name in classes]
    left = breadth(names) + 40
    cell = min(120.0, (WIDTH - left - 8) / size)
    slanted = breadth(names) > cell - 4
    top = (breadth(names) * 0.75 + 34) if slanted else 46
    centre = (WIDTH - left - 8 - cell * size) / 2

    def paint(ax: Any) -> None:
        ax.add_patch(
            Rectangle((0, 0), size, size, facecolor=HEX["accent"], alpha=0.06, linewidth=0)
        )
        for y, x in (
            (y, x) for y, line in enumerate(counts) for x, count in enumerate(line) if count
        ):
            count, share = counts[y][x], counts[y][x] / sum(counts[y])
            ax.add_patch(
                Rectangle(
                    (x + 0.02, y + 0.02),
                    0.96,
                    0.96,
                    facecolor=HEX["accent"],
                    alpha=share,
                    linewidth=0,
                )
            )
            if cell >= 16:
                colour = HEX["on-accent" if share > 0.55 else "ink"]
                ax.text(
                    x + 0.5,
                    y + 0.5,
                    f"{count:,}",
                    ha="center",
                    va="center",
                    color=colour,
                    fontsize=min(15.0, cell * 0.36, cell * 1.5 / len(f"{count:,}")),
                )
        ax.set_xlim(0, size)
        ax.set_ylim(size, 0)
        ticks = [place + 0.5 for place in range(size)]
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
        for said, offset, slope in (("predicted", (2, top - 2), 0), ("truth", (14 - left, -2), 90)):
            ax.annotate(
                said,
                (0, 1),
                xycoords="axes fraction",
                xytext=offset,
                textcoords="offset points",
                rotation=slope,
                va="top",
                color=HEX["muted"],
            )
        for spine in ax.spines.values():
            spine.set_visible(False)

    return Plot(
        draw("confusion", cell * size + top + 6, (left + centre, centre + 8, top, 6), paint)
    )


def curves(rows: Sequence[Row], figures: Mapping[str, str], title: str) -> Plot | None:
    """Figures over training, one color per arm.

    Args:
        rows: rows of `Facts.curves`.
        figures: key of a row -> line style ("-" or "--").
        title: of the plot.
    """
    arms = list(dict.fromkeys(str(row.get("arm", "")) for row in rows))
    step = "epoch" if all(known(row.get("epoch")) for row in rows) else "step"
    lines = []
    for place, arm in enumerate(arms):
        for figure, style in figures.items():
            points = [
                (row[step], row[figure])
                for row in rows
                if str(row.get("arm", "")) == arm
                and known(row.get(figure))
                and known(row.get(step))
            ]
            if points:
                lines.append((points, style, SERIES[place % len(SERIES)]))
    if not lines:
        return None

    def paint(ax: Any) -> None:
        for points, style, colour in lines:
            ax.plot(
                *zip(*points, strict=True),
                linestyle=style,
                color=HEX[colour],
                linewidth=1.8 if style == "-" else 1.3,
                marker="o" if style == "-" else "",
                markersize=4,
            )
        ax.set_xlabel(step)
        ax.xaxis.get_major_locator().set_params(integer=True)
        ax.grid(axis="y")

    marks = [(SERIES[place % len(SERIES)], arm) for place, arm in enumerate(arms) if arm]
    return Plot(draw(title, 270, (48, 10, 10, 44), paint), marks)


def trials(rows: Sequence[Row], goal: str) -> Plot | None:
    """The watched figure of each trial by architecture, and the best so far.

    Args:
        rows: rows of `Facts.trials`, in the order that they were run.
        goal: "max" or "min".
    """
    shown = [row for row in rows if known(row.get("watch"))]
    if not shown:
        return None
    kinds = sorted({architecture(row) for row in shown})
    longest = max((row.get("epochs") or 0 for row in shown), default=0)
    best: list[float] = []
    for row in shown:
        best.append((min if goal == "min" else max)([row["watch"], *best[-1:]]))

    def paint(ax: Any) -> None:
        ax.step(
            range(1, len(best) + 1), best, where="post", color=HEX["muted"], linewidth=1, alpha=0.8
        )
        for place, row in enumerate(shown, start=1):
            colour = HEX[SERIES[kinds.index(architecture(row)) % len(SERIES)]]
            whole = (row.get("epochs") or 0) >= longest
            ax.plot(
                [place],
                [row["watch"]],
                marker="o",
                markersize=8,
                color=colour,
                markerfacecolor=colour if whole else HEX["surface"],
                markeredgewidth=1.6,
                zorder=3,
            )
        ax.set_xlabel("trial, in the order run")
        ax.set_xlim(0.5, len(shown) + 0.5)
        ax.xaxis.get_major_locator().set_params(integer=True)
        ax.grid(axis="y")

    stopped = (
        [("hollow", "stopped early")]
        if any((row.get("epochs") or 0) < longest for row in shown)
        else []
    )
    marks = [(SERIES[place % len(SERIES)], kind) for place, kind in enumerate(kinds) if kind]
    return Plot(
        draw("trials", 270, (48, 10, 10, 44), paint), [*marks, *stopped, ("line", "best so far")]
    )


def lengths(histogram: Row, percentiles: Mapping[str, float]) -> Plot | None:
    """How long the encoded rows are, with the percentiles marked.

    Args:
        histogram: {"edges": n + 1 lengths, "counts": n}.
        percentiles: name -> length, e.g. {"p50": 41, "p95": 128}.
    """
    edges, counts = list(histogram.get("edges") or ()), list(histogram.get("counts") or ())
    if not counts or len(edges) != len(counts) + 1 or not max(counts):
        return None

    def paint(ax: Any) -> None:
        widths = [right - left for left, right in itertools.pairwise(edges)]
        ax.bar(
            edges[:-1],
            counts,
            [0.92 * width for width in widths],
            align="edge",
            color=HEX["accent"],
            alpha=0.75,
            linewidth=0,
        )
        places = sorted(
            (place, name)
            for name, place in percentiles.items()
            if known(place) and edges[0] <= place <= edges[-1]
        )
        span, end, row = edges[-1] - edges[0], -math.inf, 0
        for place, name in places:
            row = (
                row + 1 if place - end < 0.1 * span else 0
            )  # a label that would touch the one before stands lower
            end = place
            ax.axvline(place, color=HEX["muted"], linewidth=1, linestyle=":")
            ax.annotate(
                label(name),
                (place, 1),
                xycoords=("data", "axes fraction"),
                xytext=(4, -10 - 14 * row),
                textcoords="offset points",
                fontsize=11,
                color=HEX["muted"],
            )
        ax.set_ylim(0, max(counts) * 1.18)
        ax.set_xlabel("tokens per row")
        ax.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        ax.grid(axis="y")

    return Plot(draw("lengths", 240, (56, 10, 6, 44), paint))


def coverage(rows: Sequence[Row]) -> Plot | None:
    """Draw the accuracy among the questions that are answered against the share of them.

    Args:
        rows: {"coverage", "accuracy"}, fractions 0-1.
    """
    shown = [row for row in rows if known(row.get("coverage")) and known(row.get("accuracy"))]
    if len(shown) < 2:
        return None

    def paint(ax: Any) -> None:
        ax.plot(
            [row["coverage"] for row in shown],
            [row["accuracy"] for row in shown],
            color=HEX["accent"],
            linewidth=1.8,
            marker="o",
            markersize=3,
        )
        ax.set_xlim(0, 1.02)
        ax.set_xlabel("share of the test cases that are answered")
        _percent(ax.xaxis)
        _percent(ax.yaxis)
        ax.grid()

    return Plot(draw("coverage", 240, (50, 10, 10, 44), paint))


def known(value: Any) -> TypeGuard[float]:
    """Whether a value is a finite number."""
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


def architecture(trial: Row) -> str:
    """What a trial is coloured by; empty when its search has no such choice."""
    return str((trial.get("params") or {}).get("architecture", ""))


def _accuracy(row: Row) -> Any:
    return (row.get("test") or {}).get("accuracy")


def _colour(row: Row) -> str:
    return "accent" if row.get("winner") else "baseline" if row.get("baseline") else "muted"


def _marker(row: Row) -> str:
    return "d" if row.get("baseline") else "o"


def _floor(values: Sequence[float]) -> float:
    """Where an axis starts: one candidate that knows nothing must not press all others into a corner."""
    near = [value for value in values if value >= max(values) - 0.2]
    return min(near) - 0.02 if len(near) < len(values) else -math.inf


def _spread(wanted: Sequence[float], gap: float, room: float) -> list[float]:
    """Ascending places at least `gap` apart and within `room`, as near to the wanted ones as one sweep each way brings them."""
    places = list(wanted)
    for index in range(1, len(places)):
        places[index] = max(places[index], places[index - 1] + gap)
    limit = room
    for index in range(len(places) - 1, -1, -1):
        places[index] = min(places[index], limit)
        limit = places[index] - gap
    return places


def _percent(axis: Any) -> None:
    from matplotlib.ticker import MaxNLocator

    axis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    axis.set_major_formatter(lambda value, _: f"{value * 100:.10g}%")


def _log_ticks(ax: Any, values: Sequence[float]) -> None:
    low, high = min(values) / 1.6, max(values) * 1.6
    marks = [
        base * 10.0**power
        for power in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        for base in (1, 2, 5)
    ]
    marks = [mark for mark in marks if low <= mark <= high]
    if len(marks) > 6:
        marks = [mark for mark in marks if math.log10(mark).is_integer()]
    ax.set_xticks(marks, [f"{mark:.10g}" for mark in marks])
    ax.minorticks_off()
    ax.set_xlim(low, high)
