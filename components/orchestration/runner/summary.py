"""Last lines of a run: the leaderboard, the release decision, the report and the next commands."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from components.core.bundles import shown_size
from components.core.console import console
from components.core.workspace import home
from components.orchestration.pipeline_params import Params
from components.orchestration.project import RETRAINS
from components.orchestration.stage_files import REPORT
from components.registry.versions.reader import argument
from components.tasks.base import Metric, TaskEvaluator, evaluator, metric_text

_RELEASED = ("promoted", "unchanged")


def show_summary(root: Path, params: Params, again: str) -> None:
    """Print the summary of a run from the reports of its stages.

    Args:
        root: of the project.
        params: of the pipeline.
        again: the command that runs the pipeline again.
    """
    reports = root / params.pipeline.data / "reports"
    leaderboard = _read_json(reports / "leaderboard.json")
    served = _read_json(reports / "serve.json")
    console.print(_table(leaderboard, evaluator(params.task)))
    gates = ", ".join(f"{gate} {verdict}" for gate, verdict in served["gates"].items())
    console.print(
        f"model    {served['model']} version {served['version']}: {served['decision']} ({gates})"
    )
    report = _report(root, params, served["version"])
    if report:
        console.print(f"report   {report}")
    console.print(f"next     {_next(params.name, served, again)}")


def _read_json(path: Path) -> dict[str, Any]:
    tree: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return tree


def _report(root: Path, params: Params, version: int) -> str | None:
    """Return the path at which the report stays, relative to the project; None without a report.

    A retrain runs in a copy of the project. Its report stays in the project when the copy is
    deleted.
    """
    report = root / params.pipeline.data / REPORT
    if not report.is_file():
        return None
    if home(root) != root:
        return report_path(params.name, version)
    return report.relative_to(root).as_posix()


def report_path(name: str, version: int) -> str:
    """Return the path at which the report of a retrain stays, relative to the project.

    It lies in no output of a pipeline.

    Args:
        name: of the pipeline.
        version: of the model.
    """
    return f"{RETRAINS}/{name}/version-{version}.html"


def review_command(name: str, version: int) -> str:
    """Return the command that shows why a version was released or not.

    Args:
        name: of the pipeline.
        version: of the model.
    """
    return f"gristmill review show{argument(name)} {version}"


def _next(name: str, served: dict[str, Any], again: str) -> str:
    """Return the commands that come next.

    Args:
        name: of the pipeline.
        served: the report of the stage `serve`.
        again: the command that runs the pipeline again.
    """
    if served["decision"] == "waiting":
        return f"{review_command(name, served['version'])}   then approve or reject it"
    if served["decision"] not in _RELEASED:
        return f"{review_command(name, served['version'])}   {again}"
    serve = f"gristmill serve{argument(name)}"
    predict = f"gristmill predict{argument(name)} …"
    return f"{serve}   {predict}   gristmill mlflow up   {again}"


def _table(leaderboard: dict[str, Any], rules: TaskEvaluator) -> Table:
    """Return the leaderboard as a table with a row for each candidate.

    Args:
        leaderboard: of evaluate.
        rules: of the task, which knows the metrics.
    """
    # This metric chose the winner, and the gate compares it with the baseline, so it comes first.
    deciding = leaderboard["deciding_metric"]
    metric = next(metric for metric in rules.metrics if metric.name == deciding)
    others = [other for other in [rules.report_metric] if other.name != metric.name]
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("candidate", justify="left", no_wrap=True)
    measured = [f"validation {metric.name}", f"test {metric.name}", "interval"]
    for column in (*measured, *(other.name for other in others)):
        table.add_column(column, justify="right", no_wrap=True)
    for column in ("size", "p50 ms", "items/s"):
        table.add_column(column, justify="right", no_wrap=True)
    for row in leaderboard["candidates"]:
        cells = _cells(row, metric, others)
        table.add_row(*cells, style="bold" if row["winner"] else None)
    table.caption = "* the winner, chosen by metric and cost on validation"
    table.caption_justify = "left"
    return table


def _cells(row: dict[str, Any], metric: Metric, others: Sequence[Metric]) -> list[str]:
    """Return the cells of a candidate.

    Args:
        row: of the leaderboard.
        metric: the metric that chose the winner.
        others: further metrics to show.
    """
    mark = "*" if row["winner"] else " "
    return [
        f"{mark} {row['name']}",
        metric_text(metric, row["validation"][metric.name]),
        metric_text(metric, row["test"][metric.name]),
        _interval(metric, row["test_interval"].get(metric.name)),
        *[metric_text(other, row["test"][other.name]) for other in others],
        shown_size(row["size_bytes"]),
        f"{row['latency_ms']['p50']:.2f}",
        f"{row['throughput_per_s']:,.0f}",
    ]


def _interval(metric: Metric, pair: Sequence[float] | None) -> str:
    if not pair:
        return ""
    if metric.is_share:
        return f"{pair[0]:.3f}-{pair[1]:.3f}"
    return f"{metric_text(metric, pair[0])} to {metric_text(metric, pair[1])}"
