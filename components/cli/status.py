"""`gristmill status`: what runs, what is released, what was left unfinished."""

from __future__ import annotations

import json
import os
from pathlib import Path

from components.core.bundles import CARD
from components.core.console import console, styled
from components.core.files import sha256
from components.orchestration.cluster.local_cluster import describe
from components.orchestration.runner.resumable_state import leftovers
from components.orchestration.runner.stage_results import is_only_result


def show_status(root: Path) -> None:
    """Print it."""
    from components.registry.tracking.outbox import waiting
    from components.registry.versions.model_versions import champion

    address = os.environ.get("RAY_ADDRESS")
    ray = describe(root)
    own = (
        f"{ray['state']} at {ray['address']}, pid {ray['pid']}"
        if ray
        else "none runs; stages start one when they need it"
    )
    console.print(f"ray       {f'{address} (RAY_ADDRESS)' if address else own}")
    for params in [root / "params.yaml", *sorted(root.glob("pipelines/[!.]*/params.yaml"))]:
        name = "default" if params.parent == root else params.parent.name
        leading = champion(root, name)
        data = root / "data" if name == "default" else root / "data" / name
        line = (
            f"version {leading.number}, {leading.tags.get('title', '')}, accuracy {leading.tags.get('accuracy', '?')}"
            if leading
            else "no champion yet"
        )
        winner = data / "models" / "winner" / CARD
        if winner.is_file() and (
            leading is None or leading.tags.get("bundle_sha256") != sha256(winner)
        ):
            other = styled(("the workspace's winner is another one", "yellow"), _why(data))
            console.print(styled(f"{name:9} {line}; ", other))
        else:
            console.print(f"{name:9} {line}")
    if unsent := waiting(root):
        console.print(
            f"mlflow    {len(unsent)} stages wait to be written there: the next stage does it, or gristmill mlflow catch-up"
        )
    for folder, size in leftovers(root):
        if is_only_result(folder):
            continue
        console.print(
            f"unfinished {folder.relative_to(root)} ({size / 1e6:.1f} MB): a run with the same data, params and code goes on there; gristmill clean-state discards it"
        )


def _why(data: Path) -> str:
    report = data / "reports" / "serve.json"
    if not report.is_file():
        return ""
    served = json.loads(report.read_text(encoding="utf-8"))
    refused = [
        name for name, verdict in served["gates"].items() if verdict in ("refused", "borderline")
    ]
    return f" ({served['decision']}{': ' + ', '.join(refused) if refused else ''})"
