"""The last lines of a run: the leaderboard, what is released, where things are, what to do next."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Table

from components.registry.reader import option
from pipelines.params import Params
from pipelines.watch import console


def show_summary(root: Path, params: Params, again: str) -> None:
    """Print it from the reports of the last run."""
    reports = root / params.pipeline.data / "reports"
    board: dict[str, Any] = json.loads((reports / "leaderboard.json").read_text(encoding="utf-8"))
    served: dict[str, Any] = json.loads((reports / "serve.json").read_text(encoding="utf-8"))
    console.print(_table(board))
    name = "" if params.name == "default" else f" {params.name}"
    gates = ", ".join(f"{gate} {verdict}" for gate, verdict in served["gates"].items())
    console.print(f"model    {escape(served['model'])} version {served['version']}: {served['decision']} ({gates})")
    console.print(f"report   {(reports / 'report.html').relative_to(root)}")
    if served["decision"] == "waiting":
        console.print(f"waits    gristmill review show {served['version']}{option(params.name)}   then approve or reject")
    console.print(f"next     gristmill serve{name}   gristmill predict{' --pipeline' + name if name else ''} …   gristmill mlflow up   {escape(again)}")


def _table(board: dict[str, Any]) -> Table:
    metric = board["deciding_metric"]
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("candidate", f"validation {metric}", "test accuracy", "interval", "MB", "p50 ms", "items/s"):
        table.add_column(column, justify="left" if column == "candidate" else "right", no_wrap=True)
    for row in board["candidates"]:
        low, high = row["test_interval"]["accuracy"]
        cells = [
            f"{'*' if row['winner'] else ' '} {row['name']}",
            f"{row['validation'][metric]:.4f}",
            f"{row['test']['accuracy']:.4f}",
            f"{low:.3f}-{high:.3f}",
            f"{row['size_bytes'] / 1e6:.2f}",
            f"{row['latency_ms']['p50']:.2f}",
            f"{row['throughput_per_s']:,.0f}",
        ]
        table.add_row(*cells, style="bold" if row["winner"] else None)
    table.caption = "* the winner, chosen on validation; test only reports"
    table.caption_justify = "left"
    return table
