"""The report: one HTML file that needs nothing else, for the engineer who made the model and the reviewer who lets it out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from components.core import escaping
from components.core.bundles import shown_size
from components.core.files import write_atomic
from components.stages.evaluate import plots, search_plots
from components.stages.evaluate.importance import ENOUGH, Importance, importance
from components.stages.evaluate.plots import Row, known
from components.stages.evaluate.svg import Plot

_THIN = "\u202f"  # narrow no-break space, between a number and its unit
_MISSING = "–"


@dataclass(frozen=True)
class Facts:
    """What the report tells. Whatever is None, empty or lacks a key is left out; all figures of quality are fractions 0-1.

    Args:
        pipeline: its name.
        task: the task's id.
        data_hash: SHA-256 of clean's manifest.
        seed: of the run.
        classes: their names, in the order of the confusion matrix.
        decided_by: the metric that chose the winner on validation.
        leaderboard: rows {"name", "title", "bundle", "validation": {metric: value}, "test": {metric: value}, "test_interval": {metric: [low, high]},
            "size_bytes", "latency_ms": {"p50", "p95"}, "throughput_per_s", "winner", "baseline"}; metrics accuracy, precision, recall, macro_f1, auc.
        confidence: of all intervals.
        counts: rows {"raw", "quarantined": {reason: n}, "exact_duplicates", "conflicting", "filtered", "clean"}, and {"near_duplicate_pairs"}, which are kept, on one side of the split,
            and {"equality"}: how duplicates are alike.
        account: rows {"stage", "what", "rows", "of", "message"} and where something was cut {"share_lost"}: what happened to the rows, in order.
        quarantine: reason -> a few of the values refused for it, as plain text.
        splits: split -> {class: rows}.
        lengths: {"histogram": {"edges": n + 1, "counts": n}, "percentiles": {"p50": tokens, ...}}.
        confusion: (classes, classes) counts of the winner on test; rows are the truth.
        curves: rows {"arm", "epoch" or "step", "train_loss", "validation_loss", "watch"}.
        trials: rows {"trial", "params": {path: value}, "watch", "epochs", "status", "curve": [figure of each epoch]} in the order run.
        search: {"searcher", "scheduler", "ended_by", "forecast", "rungs": rows {"epoch", "reached", "went_on", "stopped", "finished", "failed"}},
            or {"skipped": the setting that switched it off}.
        watch: what the watched figure is called.
        watch_goal: "max" or "min".
        slices: name -> {"n", "accuracy", "interval": [low, high]} of the winner on test.
        mistakes: rows {"shown": HTML that is safe, "truth", "predicted", "probability"}, the worst first.
        leak: {"honest": accuracy, "naive": accuracy, "leaked_rows", "test_rows"} of the classical baseline on the clean and on a naive split.
        coverage: {"curve": rows {"coverage", "accuracy"}, "shares": rows {"stated", "threshold", "answered", "wrong"}} of the winner on test, thresholds from validation.
        compression: rows {"name", "parent", "size", "latency", "accuracy"}, ratios to the parent.
    """

    pipeline: str
    task: str
    data_hash: str
    seed: int
    classes: Sequence[str]
    decided_by: str
    leaderboard: Sequence[Row]
    confidence: float = 0.95
    counts: Mapping[str, Any] | None = None
    account: Sequence[Row] = ()
    quarantine: Mapping[str, Sequence[str]] = field(default_factory=dict)
    splits: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    lengths: Mapping[str, Any] | None = None
    confusion: Sequence[Sequence[int]] | None = None
    curves: Sequence[Row] = ()
    trials: Sequence[Row] = ()
    search: Mapping[str, Any] = field(default_factory=dict)
    watch: str = "watched figure"
    watch_goal: str = "max"
    slices: Mapping[str, Row] = field(default_factory=dict)
    mistakes: Sequence[Row] = ()
    leak: Mapping[str, Any] | None = None
    compression: Sequence[Row] = ()
    coverage: Mapping[str, Any] = field(default_factory=dict)


def write_report(path: Path, facts: Facts) -> None:
    """Write the report; equal facts give equal bytes.

    Args:
        path: the HTML file; it appears whole or not at all.
        facts: what it tells.
    """
    from jinja2 import ChainableUndefined, Environment, FileSystemLoader

    page = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        finalize=_visible,
        undefined=ChainableUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page.filters.update(
        percent=percent,
        number=number,
        count=count,
        size=size,
        ratio=ratio,
        points=points,
        setting=_setting,
    )
    page.tests["known"] = known
    told = [trial for trial in facts.trials if known(trial.get("watch"))]
    mattered = importance(told)
    rows = sorted(facts.leaderboard, key=lambda row: -_figure(row, "validation", facts.decided_by))
    winner = next((row for row in rows if row.get("winner")), None)
    html = page.get_template("report.html.j2").render(
        facts=facts,
        rows=rows,
        winner=winner,
        baseline=next((row for row in rows if row.get("baseline")), None),
        cases=sum(map(sum, facts.confusion))
        if facts.confusion
        else sum((facts.splits.get("test") or {}).values()),
        steps=_steps(facts.counts or {}),
        per_class=_per_class(facts),
        confused=_confused(facts),
        slices=sorted(
            facts.slices.items(),
            key=lambda item: item[1].get("accuracy") if known(item[1].get("accuracy")) else 1.0,
        ),
        trials=sorted(facts.trials, key=lambda row: _rank(row, facts.watch_goal)),
        choices={trial.get("trial"): _choices(trial, facts.trials) for trial in facts.trials},
        told=told,
        enough=ENOUGH,
        mattered=mattered,
        plots=_plots(facts, rows, mattered),
    )
    write_atomic(path, html.rstrip() + "\n")


def _plots(
    facts: Facts, rows: Sequence[Row], mattered: Importance | None
) -> dict[str, Plot | None]:
    lengths = facts.lengths or {}
    return {
        "leaderboard": plots.leaderboard(rows),
        "latency": plots.tradeoff(
            rows,
            lambda row: (row.get("latency_ms") or {}).get("p50"),
            "latency p50, ms (log scale)",
        ),
        "size": plots.tradeoff(
            rows,
            lambda row: row["size_bytes"] / 1e6 if known(row.get("size_bytes")) else None,
            "size, MB (log scale)",
        ),
        "confusion": plots.confusion(facts.confusion, facts.classes)
        if facts.confusion and facts.classes
        else None,
        "loss": plots.curves(facts.curves, {"train_loss": "--", "validation_loss": "-"}, "loss"),
        "watch": plots.curves(facts.curves, {"watch": "-"}, "watched figure"),
        "trials": plots.trials(facts.trials, facts.watch_goal),
        "progress": search_plots.progress(facts.trials, facts.watch_goal),
        "parallel": search_plots.parallel(facts.trials, facts.watch_goal, facts.watch),
        "importance": search_plots.importance(mattered.shares)
        if mattered and mattered.explained > 0
        else None,
        "coverage": plots.coverage(facts.coverage.get("curve") or ()),
        "lengths": plots.lengths(lengths.get("histogram") or {}, lengths.get("percentiles") or {}),
    }


def _figure(row: Row, split: str, metric: str) -> float:
    value = (row.get(split) or {}).get(metric)
    return float(value) if known(value) else float("-inf")


def _steps(counts: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The way from raw to clean: what each step took away, and what was left."""
    names = {
        "exact_duplicates": f"duplicates: {counts.get('equality') or 'equal'}",
        "conflicting": "conflicting labels",
        "filtered": "filtered",
    }
    taken = [
        (f"quarantined: {reason}", rows)
        for reason, rows in sorted((counts.get("quarantined") or {}).items())
    ]
    taken += [(name, counts[key]) for key, name in names.items() if known(counts.get(key))]
    if not known(counts.get("raw")):
        return []
    left, steps = counts["raw"], []
    for name, rows in taken:
        left -= rows
        steps.append(
            {"name": name, "taken": rows, "left": left, "share": left / (counts["raw"] or 1)}
        )
    return steps


def _per_class(facts: Facts) -> list[dict[str, Any]]:
    """Precision, recall and F1 of each class from the confusion matrix; None where nothing was there to count."""
    matrix, lines = facts.confusion or (), []
    for place, name in enumerate(facts.classes if matrix else ()):
        right, true, predicted = (
            matrix[place][place],
            sum(matrix[place]),
            sum(line[place] for line in matrix),
        )
        lines.append(
            {
                "name": name,
                "cases": true,
                "precision": right / predicted if predicted else None,
                "recall": right / true if true else None,
                "f1": 2 * right / (true + predicted) if true + predicted else None,
            }
        )
    return lines


def _confused(facts: Facts, limit: int = 5) -> list[dict[str, Any]]:
    """The pairs of classes that are mixed up most; with two classes the matrix says it already."""
    if not facts.confusion or len(facts.classes) < 3:
        return []
    pairs: list[dict[str, Any]] = [
        {"truth": truth, "predicted": predicted, "cases": facts.confusion[y][x]}
        for y, truth in enumerate(facts.classes)
        for x, predicted in enumerate(facts.classes)
        if x != y and facts.confusion[y][x]
    ]
    return sorted(pairs, key=lambda pair: -pair["cases"])[:limit]


def _rank(trial: Row, goal: str) -> float:
    value = trial.get("watch")
    return float("inf") if not known(value) else float(value if goal == "min" else -value)


def _choices(trial: Row, trials: Sequence[Row]) -> dict[str, Any]:
    """A trial's settings by short name, without its architecture (a column of its own) and the settings of other architectures."""
    others = {plots.architecture(other) for other in trials} - {plots.architecture(trial)}
    return {
        path.rpartition(".")[2]: value
        for path, value in (trial.get("params") or {}).items()
        if path != "architecture" and not others & set(path.split("."))
    }


def _visible(value: Any) -> Any:
    """Return a value as the page shows it; HTML that is safe has been made visible before."""
    if isinstance(value, str) and not hasattr(value, "__html__"):
        return escaping.terminal_lines(value)
    return value


def _setting(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def percent(value: Any, unit: bool = True) -> str:
    """0.849 -> 84.9 %."""
    return f"{value * 100:.1f}{_THIN + '%' if unit else ''}" if known(value) else _MISSING


def points(value: Any) -> str:
    """A difference of fractions in percentage points: 0.004 -> +0.4."""
    return f"{value * 100:+.1f}".replace("-", "−") if known(value) else _MISSING


def count(value: Any) -> str:
    """1732 -> 1,732."""
    return f"{value:,.0f}" if known(value) else _MISSING


def number(value: Any) -> str:
    """A measured figure with about three digits: 0.42, 4.13, 15.4, 251."""
    return (
        f"{value:,.{2 if abs(value) < 10 else 1 if abs(value) < 100 else 0}f}"
        if known(value)
        else _MISSING
    )


def ratio(value: Any, digits: int = 2) -> str:
    """0.254 -> 0.25 ×."""
    return f"{value:.{digits}f}{_THIN}×" if known(value) else _MISSING


def size(value: Any) -> str:
    """Return bytes in decimal units: 412000 -> 412 kB."""
    return shown_size(value).replace(" ", _THIN) if known(value) else _MISSING
