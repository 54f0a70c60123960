"""Notifications of drift checks: MLflow gets every window, a webhook gets the alerts.

A notification that fails is reported. It does not stop the check.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from components.core import escaping
from components.core.errors import EnvironmentFault
from components.monitoring.drift import DriftResult
from components.orchestration.pipeline_params import Params
from components.orchestration.webhooks import post

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric, RunTag

# The tag of an MLflow run: the version whose requests it is about.
_WATCHES = "gristmill.watches"
# Characters of a tag's value.
_LONGEST_TAG = 5000


def notify(
    root: Path,
    params: Params,
    version: int,
    window: int,
    kind: str,
    findings: Sequence[DriftResult],
    log: Callable[[str], None],
) -> None:
    """Send the findings of a window to MLflow, and an alert to the log and the webhook.

    Args:
        root: of the project.
        params: of the pipeline.
        version: that answered the requests.
        window: its number, from 1.
        kind: "inputs", or the task's `TaskFeedback.outcome`.
        findings: of the window.
        log: prints one line.
    """
    drifted = [finding for finding in findings if finding.drifted]
    try:
        _log(root, params.name, version, window, kind, findings)
    except EnvironmentFault as fault:
        log(f"MLflow was not told of a window: {fault.what}")
    if not drifted:
        return
    title = f"{params.name} version {version}"
    log(f"DRIFT of {title}: {_joined_changes(drifted)}")
    if not params.monitor.webhook:
        return
    changes = {finding.field: finding.change for finding in drifted}
    text = "; ".join(f"{field} ({change})" for field, change in changes.items())
    message = {
        "text": escaping.chat(f"Gristmill: drift of {title}: {text}"),
        "event": "drift",
        "pipeline": params.name,
        "version": version,
        "kind": kind,
        "level": params.monitor.level,
        "fields": list(changes),
        "changes": changes,
    }
    problem = post(params.monitor.webhook, message)
    if problem:
        # The address may hold a secret, so it is not printed.
        log(f"the webhook of monitor.webhook was not told: {problem}")


def _joined_changes(findings: Sequence[DriftResult]) -> str:
    return "; ".join(f"{finding.field} ({finding.change})" for finding in findings)


def _log(
    root: Path, pipeline: str, version: int, window: int, kind: str, findings: Sequence[DriftResult]
) -> None:
    """Log a window to MLflow: each version has a run, each window is a step of it.

    Raises:
        EnvironmentFault: the store does not answer.
    """
    from components.registry.store.tracking_store import client, experiment, reached

    opened = client(root)
    with reached(root):
        experiment_id = experiment(opened, root, pipeline)
        run_id = _find_run(opened, experiment_id, version)
        opened.log_batch(
            run_id, _mlflow_metrics(kind, findings, window), tags=_mlflow_tags(kind, findings)
        )
        opened.set_terminated(run_id)


def _find_run(opened: MlflowClient, experiment_id: str, version: int) -> str:
    """Return the id of a version's run, which is made for its first window."""
    runs = opened.search_runs([experiment_id], f"tags.`{_WATCHES}` = '{version}'", max_results=1)
    if runs:
        run = runs[0]
    else:
        run = opened.create_run(
            experiment_id, run_name=f"monitor version {version}", tags={_WATCHES: str(version)}
        )
    return str(run.info.run_id)


def _mlflow_metrics(kind: str, findings: Sequence[DriftResult], window: int) -> list[Metric]:
    from mlflow.entities import Metric

    now = int(time.time() * 1000)
    metrics = [Metric(f"p.{finding.field}", finding.adjusted, now, window) for finding in findings]
    count = sum(finding.drifted for finding in findings)
    metrics.append(Metric(f"drifted.{kind}", float(count), now, window))
    return metrics


def _mlflow_tags(kind: str, findings: Sequence[DriftResult]) -> list[RunTag]:
    from mlflow.entities import RunTag

    tags = [
        RunTag(f"change.{finding.field}", finding.change[:_LONGEST_TAG]) for finding in findings
    ]
    fields = ", ".join(finding.field for finding in findings if finding.drifted)
    tags.append(RunTag(f"drift.{kind}", fields or "none"))
    return tags
