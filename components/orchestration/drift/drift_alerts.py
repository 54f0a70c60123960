"""Who hears of a window: MLflow of each, a webhook of alarms. Neither can stop a look: what fails is said and that is all."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from components.core import escaping
from components.core.errors import EnvironmentFault
from components.monitoring.drift import DriftResult
from components.orchestration.pipeline_params import Params
from components.orchestration.webhooks import post

_WATCHES = "gristmill.watches"  # tag of a run: the version whose traffic it is about


def tell(
    root: Path,
    params: Params,
    version: int,
    window: int,
    kind: str,
    findings: Sequence[DriftResult],
    say: Callable[[str], None],
) -> None:
    """Pass a window on.

    Args:
        root: the project.
        params: of the pipeline.
        version: whose traffic it is.
        window: its number, from 1.
        kind: "inputs" or "accuracy".
        findings: what was found.
        say: one line for whoever watches.
    """
    drifted = [each for each in findings if each.drifted]
    try:
        _log(root, params.name, version, window, kind, findings)
    except EnvironmentFault as fault:
        say(f"MLflow was not told of a window: {fault.what}")
    if not drifted:
        return
    say(
        f"DRIFT of {params.name} version {version}: "
        + "; ".join(f"{each.field} ({each.change})" for each in drifted)
    )
    if params.monitor.webhook:
        changes = {each.field: each.change for each in drifted}
        text = f"Gristmill: drift of {params.name} version {version}: " + "; ".join(
            f"{field} ({change})" for field, change in changes.items()
        )
        message = {
            "text": escaping.chat(text),
            "event": "drift",
            "pipeline": params.name,
            "version": version,
            "kind": kind,
            "level": params.monitor.level,
            "fields": list(changes),
            "changes": changes,
        }
        if trouble := post(params.monitor.webhook, message):
            say(
                f"the webhook of monitor.webhook was not told: {trouble}"
            )  # without its address, which may hold a secret


def _log(
    root: Path, pipeline: str, version: int, window: int, kind: str, findings: Sequence[DriftResult]
) -> None:
    """One run for a version; a step for a window.

    Raises:
        EnvironmentFault: the store does not answer.
    """
    from mlflow.entities import Metric, RunTag

    from components.registry.store.tracking_store import client, experiment, reached

    opened = client(root)
    with reached(root):
        where = experiment(opened, root, pipeline)
        found = opened.search_runs([where], f"tags.`{_WATCHES}` = '{version}'", max_results=1)
        run = (
            found[0]
            if found
            else opened.create_run(
                where, run_name=f"monitor version {version}", tags={_WATCHES: str(version)}
            )
        )
        now = int(time.time() * 1000)
        metrics = [Metric(f"p.{each.field}", each.adjusted, now, window) for each in findings] + [
            Metric(f"drifted.{kind}", float(sum(each.drifted for each in findings)), now, window)
        ]
        tags = [RunTag(f"change.{each.field}", each.change[:5000]) for each in findings] + [
            RunTag(
                f"drift.{kind}",
                ", ".join(each.field for each in findings if each.drifted) or "none",
            )
        ]
        opened.log_batch(run.info.run_id, metrics, tags=tags)
        opened.set_terminated(run.info.run_id)
