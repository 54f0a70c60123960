"""The report: one self-contained HTML file for the engineer and the reviewer of a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.core import escaping
from components.core.bundles import shown_size
from components.core.files import write_atomic
from components.stages.evaluate import plots, search_plots
from components.stages.evaluate.importance import ENOUGH, Importance, importance
from components.stages.evaluate.plots import Row, is_finite
from components.stages.evaluate.svg import Plot

if TYPE_CHECKING:
    from jinja2 import Environment

# Narrow no-break space, between a number and its unit.
_THIN = "\u202f"
_MISSING = "–"


@dataclass(frozen=True)
class ReportData:
    """Data of the report.

    A section is left out if its data are None, empty or lack a key. All quality metrics are
    fractions 0-1.

    Args:
        pipeline: its name.
        task: the task's id.
        data_hash: SHA-256 of clean's manifest.
        seed: of the run.
        classes: their names, in the order of the confusion matrix.
        decided_by: the metric that chose the winner on validation.
        leaderboard: rows {"name", "title", "bundle", "validation": {metric: value},
            "test": {metric: value}, "test_interval": {metric: [low, high]}, "size_bytes",
            "latency_ms": {"p50", "p95"}, "throughput_per_s", "winner", "baseline"}.
            Metrics are accuracy, precision, recall, macro_f1 and auc.
        confidence: of all intervals.
        counts: rows {"raw", "quarantined": {reason: n}, "exact_duplicates", "conflicting",
            "filtered", "clean"}, {"near_duplicate_pairs"}, which stay on one side of the split,
            and {"equality"}: how duplicates are alike.
        account: rows {"stage", "what", "rows", "of", "message"} of what happened to the rows, in
            order. Where something was cut, {"share_lost"} too.
        quarantine: reason -> a few of the values refused for it, as plain text.
        splits: split -> {class: rows}.
        lengths: {"histogram": {"edges": n + 1, "counts": n}, "percentiles": {"p50": tokens, ...}}.
        confusion: (classes, classes) counts of the winner on test; rows are the truth.
        curves: rows {"arm", "epoch" or "step", "train_loss", "validation_loss", "watch"}.
        trials: rows {"trial", "params": {path: value}, "watch", "epochs", "status",
            "curve": [metric of each epoch]} in the order run.
        search: {"searcher", "scheduler", "ended_by", "forecast", "rungs": rows {"epoch",
            "reached", "went_on", "stopped", "finished", "failed"}}, or {"skipped": the setting
            that switched it off}.
        watch: name of the monitored metric.
        watch_goal: "max" or "min".
        slices: name -> {"n", "accuracy", "interval": [low, high]} of the winner on test.
        mistakes: rows {"shown": HTML that is safe, "truth", "predicted", "probability"}, the worst
            first.
        leak: {"honest": accuracy, "naive": accuracy, "leaked_rows", "test_rows"} of the classical
            baseline on the clean and on a naive split.
        coverage: {"curve": rows {"coverage", "accuracy"}, "shares": rows {"stated", "threshold",
            "answered", "wrong"}} of the winner on test, with thresholds from validation.
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


def write_report(path: Path, data: ReportData) -> None:
    """Write the report; equal data give equal bytes.

    Args:
        path: the HTML file; it is replaced atomically.
        data: content of the sections.
    """
    scored = [trial for trial in data.trials if is_finite(trial.get("watch"))]
    param_importance = importance(scored)
    rows = sorted(data.leaderboard, key=lambda row: -_metric(row, "validation", data.decided_by))
    html = (
        _environment()
        .get_template("report.html.j2")
        .render(
            data=data,
            rows=rows,
            winner=next((row for row in rows if row.get("winner")), None),
            baseline=next((row for row in rows if row.get("baseline")), None),
            cases=_test_cases(data),
            steps=_steps(data.counts or {}),
            per_class=_per_class(data),
            confused=_confused(data),
            slices=sorted(data.slices.items(), key=lambda item: _slice_rank(item[1])),
            trials=sorted(data.trials, key=lambda row: _rank(row, data.watch_goal)),
            choices={trial.get("trial"): _choices(trial, data.trials) for trial in data.trials},
            scored=scored,
            enough=ENOUGH,
            param_importance=param_importance,
            plots=_plots(data, rows, param_importance),
        )
    )
    write_atomic(path, html.rstrip() + "\n")


def _environment() -> Environment:
    """Return the environment of the template, with filters that format numbers."""
    from jinja2 import ChainableUndefined, Environment, FileSystemLoader

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        finalize=_visible,
        undefined=ChainableUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        percent=percent,
        number=number,
        count=count,
        size=size,
        ratio=ratio,
        points=points,
        setting=_setting,
    )
    environment.tests["known"] = is_finite
    return environment


def _plots(
    data: ReportData,
    rows: Sequence[Row],
    param_importance: Importance | None,
) -> dict[str, Plot | None]:
    """Return the plots of the report by name; None for a plot without data."""
    lengths = data.lengths or {}
    confusion = None
    if data.confusion and data.classes:
        confusion = plots.confusion(data.confusion, data.classes)
    importances = None
    if param_importance and param_importance.explained > 0:
        importances = search_plots.importance(param_importance.shares)
    losses = {"train_loss": "--", "validation_loss": "-"}
    return {
        "leaderboard": plots.leaderboard(rows),
        "latency": plots.tradeoff(rows, _latency, "latency p50, ms (log scale)"),
        "size": plots.tradeoff(rows, _megabytes, "size, MB (log scale)"),
        "confusion": confusion,
        "loss": plots.curves(data.curves, losses, "loss"),
        "watch": plots.curves(data.curves, {"watch": "-"}, "watched figure"),
        "trials": plots.trials(data.trials, data.watch_goal),
        "progress": search_plots.progress(data.trials, data.watch_goal),
        "parallel": search_plots.parallel(data.trials, data.watch_goal, data.watch),
        "importance": importances,
        "coverage": plots.coverage(data.coverage.get("curve") or ()),
        "lengths": plots.lengths(lengths.get("histogram") or {}, lengths.get("percentiles") or {}),
    }


def _latency(row: Row) -> Any:
    return (row.get("latency_ms") or {}).get("p50")


def _megabytes(row: Row) -> float | None:
    size_bytes = row.get("size_bytes")
    if is_finite(size_bytes):
        return size_bytes / 1e6
    return None


def _metric(row: Row, split: str, metric: str) -> float:
    """Return a metric of a candidate; minus infinity if it has none, so that it is last."""
    value = (row.get(split) or {}).get(metric)
    if is_finite(value):
        return float(value)
    return float("-inf")


def _test_cases(data: ReportData) -> int:
    """Return the number of test cases."""
    if data.confusion:
        return sum(map(sum, data.confusion))
    return sum((data.splits.get("test") or {}).values())


def _slice_rank(row: Row) -> Any:
    """Return the accuracy of a slice; 1 if it has none, so that it is last."""
    accuracy = row.get("accuracy")
    if is_finite(accuracy):
        return accuracy
    return 1.0


def _steps(counts: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the steps from raw to clean: what each removed, and how many rows were left."""
    raw = counts.get("raw")
    if not is_finite(raw):
        return []
    removed = []
    for reason, rows in sorted((counts.get("quarantined") or {}).items()):
        removed.append((f"quarantined: {reason}", rows))
    names = {
        "exact_duplicates": f"duplicates: {counts.get('equality') or 'equal'}",
        "conflicting": "conflicting labels",
        "filtered": "filtered",
    }
    for key, name in names.items():
        if is_finite(counts.get(key)):
            removed.append((name, counts[key]))
    left = raw
    steps = []
    for name, rows in removed:
        left -= rows
        share = left / (raw or 1)
        steps.append({"name": name, "taken": rows, "left": left, "share": share})
    return steps


def _per_class(data: ReportData) -> list[dict[str, Any]]:
    """Return precision, recall and F1 of each class; None where there is nothing to count."""
    matrix = data.confusion
    if not matrix:
        return []
    lines = []
    for index, name in enumerate(data.classes):
        correct = matrix[index][index]
        actual = sum(matrix[index])
        predicted = sum(line[index] for line in matrix)
        lines.append(
            {
                "name": name,
                "cases": actual,
                "precision": _quotient(correct, predicted),
                "recall": _quotient(correct, actual),
                "f1": _quotient(2 * correct, actual + predicted),
            }
        )
    return lines


def _quotient(part: int, whole: int) -> float | None:
    if whole:
        return part / whole
    return None


def _confused(data: ReportData, limit: int = 5) -> list[dict[str, Any]]:
    """Return the pairs of classes that are confused most often.

    With two classes there are none: the matrix shows them already.
    """
    if not data.confusion or len(data.classes) < 3:
        return []
    pairs: list[dict[str, Any]] = []
    for y, truth in enumerate(data.classes):
        for x, predicted in enumerate(data.classes):
            cases = data.confusion[y][x]
            if x != y and cases:
                pairs.append({"truth": truth, "predicted": predicted, "cases": cases})
    return sorted(pairs, key=lambda pair: -pair["cases"])[:limit]


def _rank(trial: Row, goal: str) -> float:
    """Return a number by which trials are sorted, the best first."""
    value = trial.get("watch")
    if not is_finite(value):
        return float("inf")
    return float(value if goal == "min" else -value)


def _choices(trial: Row, trials: Sequence[Row]) -> dict[str, Any]:
    """Return the settings of a trial by short name.

    Its architecture has a column of its own. Settings of other architectures are left out.
    """
    others = {plots.architecture(other) for other in trials}
    others.discard(plots.architecture(trial))
    choices = {}
    for path, value in (trial.get("params") or {}).items():
        if path != "architecture" and not others & set(path.split(".")):
            choices[path.rpartition(".")[2]] = value
    return choices


def _visible(value: Any) -> Any:
    """Return a value as the page shows it; HTML that is safe has been made visible before."""
    if isinstance(value, str) and not hasattr(value, "__html__"):
        return escaping.terminal_lines(value)
    return value


def _setting(value: Any) -> str:
    """Return the value of a parameter; a float with three digits."""
    if isinstance(value, float):
        return f"{value:.3g}"
    return str(value)


def percent(value: Any, unit: bool = True) -> str:
    """Return a fraction in percent: 0.849 -> 84.9 %."""
    if not is_finite(value):
        return _MISSING
    if unit:
        suffix = _THIN + "%"
    else:
        suffix = ""
    return f"{value * 100:.1f}{suffix}"


def points(value: Any) -> str:
    """Return a difference of fractions in percentage points: 0.004 -> +0.4."""
    if not is_finite(value):
        return _MISSING
    return f"{value * 100:+.1f}".replace("-", "−")


def count(value: Any) -> str:
    """Return a count with separators: 1732 -> 1,732."""
    if is_finite(value):
        return f"{value:,.0f}"
    return _MISSING


def number(value: Any) -> str:
    """Return a measured number with about three digits: 0.42, 4.13, 15.4, 251."""
    if not is_finite(value):
        return _MISSING
    if abs(value) < 10:
        return f"{value:,.2f}"
    if abs(value) < 100:
        return f"{value:,.1f}"
    return f"{value:,.0f}"


def ratio(value: Any, digits: int = 2) -> str:
    """Return a ratio: 0.254 -> 0.25 ×."""
    if is_finite(value):
        return f"{value:.{digits}f}{_THIN}×"
    return _MISSING


def size(value: Any) -> str:
    """Return bytes in decimal units: 412000 -> 412 kB."""
    if is_finite(value):
        return shown_size(value).replace(" ", _THIN)
    return _MISSING
