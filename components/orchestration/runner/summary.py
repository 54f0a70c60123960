"""The last lines of a run: the leaderboard, what is released, where things are, what to do next."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from components.core.bundles import shown_size
from components.core.console import console
from components.orchestration.pipeline_params import Params
from components.orchestration.project import RETRAINS
from components.orchestration.stage_files import REPORT
from components.registry.store.tracking_store import home
from components.registry.versions.reader import argument

_RELEASED = ("promoted", "unchanged")


def show_summary(root: Path, params: Params, again: str) -> None:
    """Print it from the reports of the last run."""
    reports = root / params.pipeline.data / "reports"
    board: dict[str, Any] = json.loads((reports / "leaderboard.json").read_text(encoding="utf-8"))
    served: dict[str, Any] = json.loads((reports / "serve.json").read_text(encoding="utf-8"))
    console.print(_table(board))
    gates = ", ".join(f"{gate} {verdict}" for gate, verdict in served["gates"].items())
    console.print(
        f"model    {served['model']} version {served['version']}: {served['decision']} ({gates})"
    )
    if report := _report(root, params, served["version"]):
        console.print(f"report   {report}")
    console.print(f"next     {_next(params.name, served, again)}")


def _report(root: Path, params: Params, version: int) -> str | None:
    """Return the path of the report that a person will find; None where there is none.

    A retrain runs in a copy of the project, and its report is kept in the project when the copy goes.
    """
    report = root / params.pipeline.data / REPORT
    if not report.is_file():
        return None
    return (
        kept_report(params.name, version)
        if home(root) != root
        else report.relative_to(root).as_posix()
    )


def kept_report(name: str, version: int) -> str:
    """Return where the report of a retrain is kept, relative to the project: in no pipeline's outputs."""
    return f"{RETRAINS}/{name}/version-{version}.html"


def review_command(name: str, version: int) -> str:
    """Return the command that shows why a version was released or not."""
    return f"gristmill review show{argument(name)} {version}"


def _next(name: str, served: dict[str, Any], again: str) -> str:
    if served["decision"] == "waiting":
        return f"{review_command(name, served['version'])}   then approve or reject it"
    if served["decision"] not in _RELEASED:
        return f"{review_command(name, served['version'])}   {again}"
    return f"gristmill serve{argument(name)}   gristmill predict{argument(name)} …   gristmill mlflow up   {again}"


def _table(board: dict[str, Any]) -> Table:
    # The metric that chose the winner and that the gate compares with the baseline comes first.
    metric = board["deciding_metric"]
    others = [] if metric == "accuracy" else ["accuracy"]
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in (
        "candidate",
        f"validation {metric}",
        f"test {metric}",
        "interval",
        *others,
        "size",
        "p50 ms",
        "items/s",
    ):
        table.add_column(column, justify="left" if column == "candidate" else "right", no_wrap=True)
    for row in board["candidates"]:
        cells = [
            f"{'*' if row['winner'] else ' '} {row['name']}",
            f"{row['validation'][metric]:.4f}",
            f"{row['test'][metric]:.4f}",
            _interval(row["test_interval"].get(metric)),
            *(f"{row['test'][other]:.4f}" for other in others),
            shown_size(row["size_bytes"]),
            f"{row['latency_ms']['p50']:.2f}",
            f"{row['throughput_per_s']:,.0f}",
        ]
        table.add_row(*cells, style="bold" if row["winner"] else None)
    table.caption = "* the winner, chosen on validation; test only reports"
    table.caption_justify = "left"
    return table


def _interval(pair: Sequence[float] | None) -> str:
    return f"{pair[0]:.3f}-{pair[1]:.3f}" if pair else ""
