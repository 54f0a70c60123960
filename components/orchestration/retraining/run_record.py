"""The record of a `gristmill run`, with the inputs of the model in the registry.

`gristmill retrain` compares its inputs with those of this record.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from hashlib import sha256 as digest_of
from pathlib import Path

from components.core.console import console
from components.core.errors import GristmillError
from components.core.files import sha256
from components.core.tables import MANIFEST
from components.core.workspace import home
from components.orchestration.pipeline_params import Params
from components.orchestration.retraining import project_copy
from components.orchestration.retraining.pipeline_inputs import read_inputs
from components.orchestration.retraining.retrain_log import champion, new_record, now
from components.registry.release.retrain_record import (
    DONE,
    RetrainRecord,
    completed_retrain,
    record,
    retrains,
)
from components.registry.versions.reader import read_snapshot
from components.stages.ingest.survey import Survey

# The trigger of such a record.
RUN = "gristmill run"
_UNKNOWN = "gristmill retrain will not know of this run: {}"


@dataclass(frozen=True)
class RunRecord:
    """Holds the inputs of a run that has begun. A source may grow while stages work.

    Args:
        root: of the project.
        params: of the pipeline.
        retrain: the record of the run.
        survey: of the source at the beginning.
        served: when serve last wrote its report, in nanoseconds; 0: never.
    """

    root: Path
    params: Params
    retrain: RetrainRecord
    survey: Survey
    served: int

    def close(self, seconds: float) -> None:
        """Write how the run ended, unless a record with the same inputs exists.

        Args:
            seconds: that the run took.
        """
        try:
            retrain = self._ended(seconds)
            snapshot = read_snapshot(self.root, self.params.name)
            past = retrains(snapshot) if snapshot else []
            if retrain.outcome in DONE and not completed_retrain(past, retrain.inputs):
                record(self.root, self.params.name, retrain)
        except GristmillError as error:
            console.print(_UNKNOWN.format(error.what), style="dim")

    def _ended(self, seconds: float) -> RetrainRecord:
        data = self.root / self.params.pipeline.data
        served = json.loads((data / "reports" / "serve.json").read_text(encoding="utf-8"))
        details = [self.retrain.detail]
        outcome = "unchanged"
        if _served(self.root, self.params) != self.served:
            outcome = served["decision"]
            details += _refused(served)
        else:
            details.append("DVC knew the result of serve")
        manifest = data / "clean" / MANIFEST
        return replace(
            self.retrain,
            outcome=outcome,
            detail=", ".join(filter(None, details)),
            ended=now(),
            seconds={"run": round(seconds, 1)},
            source=self.survey.only(_ingested_files(data / "raw" / MANIFEST)).digest,
            data=sha256(manifest) if manifest.is_file() else "",
            version=served["version"],
            after=champion(self.root, self.params.name),
        )


def begin(root: Path, params: Params) -> Callable[[float], None]:
    """Read the inputs of a run that begins.

    Args:
        root: of the project.
        params: of the pipeline.

    Returns:
        A function to call with the seconds of the run when all stages have ended well. In a copy of
        the project it does nothing, because the retrain writes the record.
    """
    if home(root) != root:
        return lambda _: None
    draft = new_record(RUN, before=champion(root, params.name))
    try:
        retrain, survey, _ = read_inputs(root, params, draft)
        changes = project_copy.uncommitted(root)
        # A retrain would run the code of HEAD, which differs from the code of this run.
        if changes:
            retrain = replace(
                retrain,
                code=digest_of((retrain.code + changes).encode()).hexdigest(),
                detail="with changes of the code that are not committed",
            )
    except GristmillError as error:
        reason = error.what
        return lambda _: console.print(_UNKNOWN.format(reason), style="dim")
    return RunRecord(root, params, retrain, survey, _served(root, params)).close


def _served(root: Path, params: Params) -> int:
    """Return when serve last wrote its report, in nanoseconds, or 0."""
    report = root / params.pipeline.data / "reports" / "serve.json"
    with suppress(OSError):
        return report.stat().st_mtime_ns
    return 0


def _refused(served: dict[str, dict[str, str]]) -> list[str]:
    """Return the gates that a version did not pass."""
    verdicts = served.get("gates", {})
    return [gate for gate, verdict in verdicts.items() if verdict in ("refused", "borderline")]


def _ingested_files(manifest: Path) -> set[str]:
    """Return the names of the files that ingest has read.

    Feedback that was accepted later is not among them, because DVC does not track it.
    """
    with suppress(OSError):
        content = json.loads(manifest.read_text(encoding="utf-8"))
        return {file["name"] for file in content.get("files", ())}
    return set()
