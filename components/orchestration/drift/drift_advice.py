"""What to do about a drift of which there is nothing to learn yet."""

from __future__ import annotations

from pathlib import Path

from components.monitoring.feedback_store import FeedbackStore
from components.orchestration.drift.drift_check import monitoring
from components.orchestration.pipeline_params import Params, load
from components.orchestration.runner.run import files_of
from components.registry.versions.reader import argument
from components.serving.http.monitoring_routes import FEEDBACK


def advice(root: Path, name: str) -> str:
    """The next steps towards a retrain, in words.

    Raises:
        ParamsError: params.yaml is wrong.
    """
    file = files_of(root, name)[0]
    params = load(file, shown=file.relative_to(root).as_posix())
    waiting = len(
        FeedbackStore(
            monitoring(root, params).folder / FEEDBACK, params.monitor.feedback_rows
        ).waiting()
    )
    steps = _missing(params, name)
    steps.append(
        f"look at what waits for review ({waiting:,}; gristmill feedback list{argument(name)}) and accept what is right"
        if waiting
        else "send labels for answers (POST /v1/feedback) and accept them"
    )
    return "; ".join([*steps, "or bring new rows to the source; the retrain then begins by itself"])


def _missing(params: Params, name: str) -> list[str]:
    ingest = params.sections["ingest"]
    wanted = (
        []
        if params.monitor.keep_text
        else ["monitor.keep_text: true (and start gristmill serve again)"]
    )
    wanted += [] if ingest.feedback else [f"ingest.feedback: data/feedback/{name}"]  # type: ignore[attr-defined]
    return [f"set {' and '.join(wanted)} in {params.pipeline.params}"] if wanted else []
