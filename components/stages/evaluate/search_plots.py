"""The report's plots of the search."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from numbers import Real
from typing import Any

from components.stages.evaluate.importance import varied
from components.stages.evaluate.plots import Row, known
from components.stages.evaluate.svg import HEX, Plot, breadth, draw, label

_ASIDE = 1.14  # where the line of a trial passes that has no value on an axis
_STEP = 46.0  # px between two axes


def progress(rows: Sequence[Row], goal: str) -> Plot | None:
    """The curve of each trial, one after the other along the epochs that all of them took, and the best so far.

    Args:
        rows: rows of `Facts.trials` with "curve", in the order that they were begun.
        goal: "max" or "min".
    """
    curves = [[value for value in row.get("curve") or () if known(value)] for row in rows]
    if not any(curves):
        return None
    best: list[float] = []
    for value in (value for curve in curves for value in curve):
        best.append((min if goal == "min" else max)([value, *best[-1:]]))

    def paint(ax: Any) -> None:
        start = 1
        for curve in filter(None, curves):
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
        ax.step(range(1, len(best) + 1), best, where="post", color=HEX["muted"], linewidth=1.2)
        ax.set_xlabel("epochs of all trials together")
        ax.xaxis.get_major_locator().set_params(integer=True)
        ax.grid(axis="y")

    return Plot(
        draw("progress", 270, (48, 10, 10, 44), paint),
        [("accent", "a trial"), ("line", "best so far")],
    )


def parallel(rows: Sequence[Row], goal: str, watch: str) -> Plot | None:
    """Parallel coordinates: an axis per parameter that was varied, a line per trial, the stronger the better its figure.

    Args:
        rows: rows of `Facts.trials`.
        goal: "max" or "min".
        watch: what the figure is called.
    """
    shown = sorted(
        (row for row in rows if known(row.get("watch"))),
        key=lambda row: row["watch"],
        reverse=goal == "min",
    )  # the best last, on top
    paths = varied([row.get("params") or {} for row in shown])
    if len(shown) < 2 or not paths:
        return None
    axes = [_axis([(row.get("params") or {}).get(path) for row in shown]) for path in paths]
    axes.append(_axis([row["watch"] for row in shown]))
    names = [*(label(_short(path, paths), 22) for path in paths), label(watch, 22)]
    missing = any(place is None for places, _ in axes for place in places)

    def paint(ax: Any) -> None:
        for number in range(len(shown)):
            line = [places[number] for places, _ in axes]
            best = number == len(shown) - 1
            colour, strength = (
                ("s1", 1.0) if best else ("accent", 0.08 + 0.72 * (number / len(shown)) ** 2)
            )
            ax.plot(
                [_ASIDE if place is None else place for place in line],
                range(len(line)),
                color=HEX[colour],
                alpha=strength,
                linewidth=2.2 if best else 1.4,
            )
        for y, (_, ticks) in enumerate(axes):
            ax.axhline(
                y,
                xmax=1 / 1.2 if missing else 1,
                color=HEX["muted"],
                linewidth=1,
                alpha=0.6,
                zorder=0,
            )
            for place, said in ticks:
                side = "left" if place < 0.05 else "right" if place > 0.95 else "center"
                patch = {"facecolor": HEX["surface"], "alpha": 0.75, "linewidth": 0, "pad": 1}
                ax.annotate(
                    said,
                    (place, y),
                    xytext=(0, -12),
                    textcoords="offset points",
                    ha=side,
                    va="center",
                    fontsize=10,
                    color=HEX["muted"],
                    bbox=patch,
                    zorder=4,
                )
        if missing:
            ax.annotate(
                "not set",
                (_ASIDE, 0),
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

    plot = draw("parallel", _STEP * len(axes) + 12, (breadth(names) + 14, 8, 6, 6), paint)
    return Plot(plot, [("accent", "a trial: the stronger, the better"), ("s1", "the best one")])


def importance(shares: Mapping[str, float]) -> Plot | None:
    """Bars of the shares of parameters, the largest first."""
    if not shares:
        return None
    names = [label(_short(path, list(shares))) for path in shares]

    def paint(ax: Any) -> None:
        ax.barh(
            range(len(names)), list(shares.values()), height=0.62, color=HEX["accent"], linewidth=0
        )
        for y, value in enumerate(shares.values()):
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
        ax.set_xlim(0, max(shares.values()) * 1.15 or 1)
        ax.set_xticks([])
        ax.spines["bottom"].set_visible(False)

    return Plot(draw("importance", 26.0 * len(names) + 14, (breadth(names) + 12, 12, 6, 6), paint))


def _axis(values: Sequence[Any]) -> tuple[list[float | None], list[tuple[float, str]]]:
    """Places (0-1) of values on an axis of their own, None where there is none; and its ticks. Wide ranges are logarithmic, names equally far apart."""
    there = [value for value in values if value is not None]
    if all(isinstance(value, Real) and not isinstance(value, bool) for value in there):
        scale: Callable[[float], float] = (
            math.log if min(there) > 0 and max(there) >= 8 * min(there) else float
        )
        low, high = scale(min(there)), scale(max(there))
        places = [
            None if value is None else (scale(value) - low) / ((high - low) or 1)
            for value in values
        ]
        few = sorted(set(there))
        marks = few if len(few) <= 4 else [few[0], few[-1]]
        return list(places), [
            ((scale(mark) - low) / ((high - low) or 1), f"{mark:.3g}") for mark in marks
        ]
    kinds = sorted({str(value) for value in there})
    spots = {kind: number / max(1, len(kinds) - 1) for number, kind in enumerate(kinds)}
    room = 40 // len(kinds)
    return [None if value is None else spots[str(value)] for value in values], [
        (spot, label(kind, max(3, room))) for kind, spot in spots.items()
    ]


def _short(path: str, paths: Sequence[str]) -> str:
    """The last part of a path, with the one before where that alone is not clear."""
    last = path.rpartition(".")[2]
    return (
        last
        if sum(other.rpartition(".")[2] == last for other in paths) == 1
        else ".".join(path.split(".")[-2:])
    )
