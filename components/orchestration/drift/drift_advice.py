"""Advice on a drift when there is nothing new to learn from."""

from __future__ import annotations

from pathlib import Path

from components.monitoring.feedback_store import FeedbackStore
from components.monitoring.monitor_folder import FEEDBACK
from components.orchestration.drift.drift_check import monitoring
from components.orchestration.pipeline_params import Params, load
from components.orchestration.project import pipeline_files
from components.registry.versions.reader import argument
from components.tasks.base import evaluator


def advice(root: Path, name: str) -> str:
    """Return the next steps towards a retrain, in words.

    Args:
        root: of the project.
        name: of the pipeline.

    Raises:
        ParamsError: params.yaml is wrong.
    """
    file = pipeline_files(root, name)[0]
    params = load(file, shown=file.relative_to(root).as_posix())
    folder = monitoring(root, params).folder / FEEDBACK
    store = FeedbackStore(folder, params.monitor.feedback_rows)
    waiting = len(store.waiting())
    steps = _missing_settings(params, name)
    if waiting:
        steps.append(
            f"look at what waits for review "
            f"({waiting:,}; gristmill feedback list{argument(name)}) and accept what is right"
        )
    else:
        noun = evaluator(params.task).feedback.noun
        steps.append(f"send {noun}s for answers (POST /v1/feedback) and accept them")
    steps.append("or bring new rows to the source; the retrain then begins by itself")
    return "; ".join(steps)


def _missing_settings(params: Params, name: str) -> list[str]:
    """Return the step that sets the params without which feedback is not learned from."""
    ingest = params.sections["ingest"]
    settings = []
    if not params.monitor.keep_text:
        settings.append("monitor.keep_text: true (and start gristmill serve again)")
    if not ingest.feedback:  # type: ignore[attr-defined]
        settings.append(f"ingest.feedback: data/feedback/{name}")
    if not settings:
        return []
    return [f"set {' and '.join(settings)} in {params.pipeline.params}"]
