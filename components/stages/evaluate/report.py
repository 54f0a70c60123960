"""The report: one self-contained HTML file for the engineer and the reviewer of a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from components.core.files import write_atomic
from components.core.page_templates import MISSING, environment, is_finite
from components.core.svg import Plot
from components.stages.evaluate import plots, search_plots
from components.stages.evaluate.behavior import BehaviorResult
from components.stages.evaluate.importance import ENOUGH, Importance, importance
from components.stages.evaluate.metric_scale import MetricScale
from components.stages.evaluate.plots import Row
from components.stages.evaluate.resampling import Resampling, fold_metrics
from components.stages.evaluate.robustness import ChangeResult
from components.tasks.base import Metric, ReportPanel, ReportSection

# Failing cases of a behavior test that are shown.
_SHOWN_FAILURES = 12


@dataclass(frozen=True)
class ShownCase:
    """A case that the report shows, as HTML.

    Args:
        query: for a person, as HTML that is safe.
        verdict: see `base.WorstAnswer`.
    """

    query: str
    verdict: str


@dataclass(frozen=True)
class WorstCases:
    """The cases that the winner answered worst, as the report shows them.

    Args:
        title: the heading.
        note: how they were chosen.
        cases: the worst first.
    """

    title: str = ""
    note: str = ""
    cases: Sequence[ShownCase] = ()


@dataclass(frozen=True)
class ReportData:
    """Data of the report.

    A section is left out if its data are None, empty or lack a key.

    Args:
        pipeline: its name.
        task: the task's id.
        data_hash: SHA-256 of clean's manifest.
        seed: of the run.
        deciding_metric: the metric that chose the winner on validation.
        report_metric: the metric of plots, slices and comparisons.
        metrics: columns of the table of candidates.
        leaderboard: rows {"name", "title", "bundle", "validation": {metric: value},
            "test": {metric: value}, "test_interval": {metric: [low, high]}, "size_bytes",
            "parameters", "load_ms", "peak_memory_bytes", "latency_ms": {"p50", "p95", "p99"},
            "throughput_per_s", "energy_j_per_1000": {"weighted": [median, low, high]} or None,
            "winner", "baseline"}.
        failed: rows {"name", "reason"} of the candidates that did not load or answer.
        data_details: (name, text) lines about the targets, for the foot of the page.
        test_cases: number of cases of the test split.
        confidence: of all intervals.
        counts: rows {"raw", "quarantined": {reason: n}, "exact_duplicates", "conflicting",
            "filtered", "embargoed", "held_out", "clean"}, {"near_duplicate_pairs"}, which stay on
            one side of the split, {"equality"}: how duplicates are alike, and {"conflict_reason"}.
        account: rows {"stage", "what", "rows", "of", "message"} of what happened to the rows, in
            order. Where something was cut, {"share_lost"} too.
        quarantine: reason -> a few of the values refused for it, as plain text.
        data_panels: of the task, about the targets.
        lengths: {"histogram": {"edges": n + 1, "counts": n}, "percentiles": {"p50": tokens, ...}}.
        winner_panels: of the task, about the winner's answers to the test split.
        winner_sections: of the task, about the same, below the slices.
        curves: rows {"arm", "epoch" or "step", "train_loss", "validation_loss", "watch"}.
        trials: rows {"trial", "params": {path: value}, "watch", "epochs", "status",
            "curve": [metric of each epoch]} in the order run.
        search: {"searcher", "scheduler", "ended_by", "forecast", "rungs": rows {"epoch",
            "reached", "went_on", "stopped", "finished", "failed"}}, or {"skipped": the setting
            that switched it off}.
        watch: name of the monitored metric.
        monitored_goal: "max" or "min".
        slices: name -> {"n", "value", "interval": [low, high]} of the winner on test, by
            `report_metric`.
        worst: the cases that the winner answered worst.
        leak: {"honest": metric, "naive": metric, "leaked_rows", "test_rows", "is_split"} of the
            classical baseline on the clean and on a naive split, by `report_metric`, see
            `naive_claim`.
        behavior: results of the winner in the behavior tests.
        changes: results of the winner on test cases with a small change.
        resampling: results of further fits of the winner's recipe.
        compression: rows {"name", "parent", "size", "latency", "metric"}, ratios to the parent.
        recipes: rows {"recipe", "step", "settings", "size_bytes", "outcome"} of compress.
        energy_j: joules of train, tune and compress; None: unknown.
    """

    pipeline: str
    task: str
    data_hash: str
    seed: int
    deciding_metric: Metric
    report_metric: Metric
    metrics: Sequence[Metric]
    leaderboard: Sequence[Row]
    failed: Sequence[Mapping[str, str]] = ()
    data_details: Sequence[tuple[str, str]] = ()
    test_cases: int = 0
    confidence: float = 0.95
    counts: Mapping[str, Any] | None = None
    account: Sequence[Row] = ()
    quarantine: Mapping[str, Sequence[str]] = field(default_factory=dict)
    data_panels: Sequence[ReportPanel] = ()
    lengths: Mapping[str, Any] | None = None
    winner_panels: Sequence[ReportPanel] = ()
    winner_sections: Sequence[ReportSection] = ()
    curves: Sequence[Row] = ()
    trials: Sequence[Row] = ()
    search: Mapping[str, Any] = field(default_factory=dict)
    watch: str = "watched figure"
    monitored_goal: str = "max"
    slices: Mapping[str, Row] = field(default_factory=dict)
    worst: WorstCases = WorstCases()
    leak: Mapping[str, Any] | None = None
    behavior: Sequence[BehaviorResult] = ()
    changes: Sequence[ChangeResult] = ()
    resampling: Resampling = field(default_factory=Resampling)
    compression: Sequence[Row] = ()
    recipes: Sequence[Row] = ()
    energy_j: float | None = None


def write_report(path: Path, data: ReportData) -> None:
    """Write the report; equal data give equal bytes.

    Args:
        path: the HTML file; it is replaced atomically.
        data: content of the sections.
    """
    scored = [trial for trial in data.trials if is_finite(trial.get("watch"))]
    param_importance = importance(scored)
    deciding = MetricScale(data.deciding_metric)
    reported = MetricScale(data.report_metric)
    columns = [MetricScale(metric) for metric in data.metrics]
    chosen_by = _chosen_by(deciding, reported)
    rows = sorted(
        data.leaderboard,
        key=lambda row: deciding.rank(deciding.of(row, "validation")),
    )
    slices = sorted(data.slices.items(), key=lambda item: _weakness(item[1], reported))
    leak = data.leak or {}
    template_environment = environment(Path(__file__).parent)
    template_environment.filters.update(setting=_setting, width=_width, or_unknown=_or_unknown)
    html = template_environment.get_template("report.html.j2").render(
        data=data,
        deciding=deciding,
        reported=reported,
        columns=columns,
        units=_units(columns),
        chosen_by=chosen_by,
        another=_another(columns, chosen_by),
        rows=rows,
        winner=next((row for row in rows if row.get("winner")), None),
        baseline=next((row for row in rows if row.get("baseline")), None),
        steps=removal_steps(data.counts or {}),
        slices=slices,
        slice_whole=reported.whole([_upper_end(row) for row in data.slices.values()]),
        leak_whole=reported.whole([leak.get("honest"), leak.get("naive")]),
        trials=sorted(data.trials, key=lambda row: _rank(row, data.monitored_goal)),
        choices={trial.get("trial"): _choices(trial, data.trials) for trial in data.trials},
        scored=scored,
        enough=ENOUGH,
        shown_failures=_SHOWN_FAILURES,
        param_importance=param_importance,
        folds=fold_metrics(data.resampling, [scale.metric.name for scale in chosen_by]),
        plots=_plots(data, rows, param_importance),
    )
    write_atomic(path, html.rstrip() + "\n")


def _chosen_by(deciding: MetricScale, reported: MetricScale) -> list[MetricScale]:
    """Return the metrics of validation that the table of candidates shows."""
    if deciding.metric.name == reported.metric.name:
        return [deciding]
    return [deciding, reported]


def _units(columns: Sequence[MetricScale]) -> str:
    """Return "shares", "numbers" or "mixed": what the metrics of the table are."""
    shares = {scale.metric.is_share for scale in columns}
    if len(shares) > 1:
        return "mixed"
    if False in shares:
        return "numbers"
    return "shares"


def _another(
    columns: Sequence[MetricScale], chosen_by: Sequence[MetricScale]
) -> MetricScale | None:
    """Return the last metric of the table that is not shown beside validation."""
    names = {scale.metric.name for scale in chosen_by}
    others = [scale for scale in columns if scale.metric.name not in names]
    return others[-1] if others else None


def _upper_end(row: Row) -> Any:
    """Return the upper end of a slice's interval; its value if it has none."""
    interval = row.get("interval")
    if interval:
        return interval[1]
    return row.get("value")


def _weakness(row: Row, scale: MetricScale) -> tuple[bool, float]:
    """Return the sort key of a slice: the weakest first, those without a value last."""
    value = row.get("value")
    return not is_finite(value), -scale.rank(value)


def _plots(
    data: ReportData,
    rows: Sequence[Row],
    param_importance: Importance | None,
) -> dict[str, Plot | None]:
    """Return the plots of the report by name; None for a plot without data."""
    lengths = data.lengths or {}
    scale = MetricScale(data.report_metric)
    importances = None
    if param_importance and param_importance.explained > 0:
        importances = search_plots.importance(param_importance.shares)
    losses = {"train_loss": "--", "validation_loss": "-"}
    return {
        "leaderboard": plots.leaderboard(rows, scale),
        "latency": plots.tradeoff(rows, scale, _latency, "latency p50, ms (log scale)"),
        "size": plots.tradeoff(rows, scale, _megabytes, "size, MB (log scale)"),
        "loss": plots.curves(data.curves, losses, "loss"),
        "watch": plots.curves(data.curves, {"watch": "-"}, "watched figure"),
        "trials": plots.trials(data.trials, data.monitored_goal),
        "progress": search_plots.progress(data.trials, data.monitored_goal),
        "parallel": search_plots.parallel(data.trials, data.monitored_goal, data.watch),
        "importance": importances,
        "learning_curve": plots.learning_curve(
            data.resampling.curve, MetricScale(data.deciding_metric)
        ),
        "lengths": plots.lengths(lengths.get("histogram") or {}, lengths.get("percentiles") or {}),
    }


def _latency(row: Row) -> Any:
    return (row.get("latency_ms") or {}).get("p50")


def _megabytes(row: Row) -> float | None:
    size_bytes = row.get("size_bytes")
    if is_finite(size_bytes):
        return size_bytes / 1e6
    return None


def removal_steps(counts: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the steps from raw to clean: what each removed, and how many rows were left."""
    raw = counts.get("raw")
    if not is_finite(raw):
        return []
    removed = []
    for reason, rows in sorted((counts.get("quarantined") or {}).items()):
        removed.append((f"quarantined: {reason}", rows))
    names = {
        "exact_duplicates": f"duplicates: {counts.get('equality') or 'equal'}",
        "conflicting": (counts.get("conflict_reason") or "conflicts").replace("_", " "),
        "filtered": "filtered",
        "embargoed": "too near validation or test in time",
        "held_out": "without a target, in a group of validation or test",
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


def _width(value: float, whole: float) -> str:
    """Return the width of a bar in percent; an empty one for values below 0."""
    return f"{max(0.0, value / whole) * 100:.2f}"


def _or_unknown(text: str) -> str:
    """Return the text of a number, "unknown" where there is none."""
    return "unknown" if text == MISSING else text


def _setting(value: Any) -> str:
    """Return the value of a parameter; a float with three digits."""
    if isinstance(value, float):
        return f"{value:.3g}"
    return str(value)
