"""`gristmill status`: what runs, what is released, what was left unfinished."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

from components.core.bundles import CARD
from components.core.console import console, styled
from components.core.files import sha256
from components.orchestration.cluster.local_cluster import describe
from components.orchestration.runner.resumable_state import leftovers
from components.orchestration.runner.stage_results import is_only_result
from components.registry.versions.reader import reported_metric

if TYPE_CHECKING:
    from components.registry.versions.reader import Version


def show_status(root: Path) -> None:
    """Print the state of Ray, of each pipeline, of the outbox and of unfinished stages.

    Args:
        root: of the project.
    """
    from components.registry.tracking.outbox import waiting

    console.print(f"ray       {_ray(root)}")
    for params in [root / "params.yaml", *sorted(root.glob("pipelines/[!.]*/params.yaml"))]:
        if params.parent == root:
            _show_pipeline(root, "default", root / "data")
        else:
            name = params.parent.name
            _show_pipeline(root, name, root / "data" / name)
    unsent = waiting(root)
    if unsent:
        console.print(
            f"mlflow    {len(unsent)} stages wait to be written there: "
            "the next stage does it, or gristmill mlflow catch-up"
        )
    for folder, size in leftovers(root):
        if is_only_result(folder):
            continue
        console.print(
            f"unfinished {folder.relative_to(root)} ({size / 1e6:.1f} MB): "
            "a run with the same data, params and code goes on there; "
            "gristmill clean-state discards it"
        )


def _ray(root: Path) -> str:
    address = os.environ.get("RAY_ADDRESS")
    local = describe(root)
    if address:
        return f"{address} (RAY_ADDRESS)"
    if local:
        return f"{local['state']} at {local['address']}, pid {local['pid']}"
    return "none runs; stages start one when they need it"


def _show_pipeline(root: Path, name: str, data: Path) -> None:
    from components.registry.versions.model_versions import champion

    released = champion(root, name)
    line = _champion_line(released)
    winner = data / "models" / "winner" / CARD
    if winner.is_file() and _differs(released, winner):
        warning = styled(("the workspace's winner is another one", "yellow"), _reason(data))
        console.print(styled(f"{name:9} {line}; ", warning))
    else:
        console.print(f"{name:9} {line}")


def _champion_line(released: Version | None) -> str:
    if released is None:
        return "no champion yet"
    tags = released.tags
    title = tags.get("title", "")
    metric = reported_metric(tags)
    return f"version {released.number}, {title}, {metric.name} {metric.value}"


def _differs(released: Version | None, winner: Path) -> bool:
    """Return whether the champion is another bundle than the winner in the workspace."""
    return released is None or released.tags.get("bundle_sha256") != sha256(winner)


def _reason(data: Path) -> str:
    """Return the decision on the winner, and the gates that it did not pass."""
    report = data / "reports" / "serve.json"
    if not report.is_file():
        return ""
    served = json.loads(report.read_text(encoding="utf-8"))
    refused = [
        name for name, verdict in served["gates"].items() if verdict in ("refused", "borderline")
    ]
    if not refused:
        return f" ({served['decision']})"
    return f" ({served['decision']}: {', '.join(refused)})"
