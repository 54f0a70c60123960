"""What `gristmill run` leaves for `gristmill retrain` to compare with: a record of what the model in the registry was made with."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from hashlib import sha256 as digest_of
from pathlib import Path

from components.core.console import console
from components.core.errors import GristmillError
from components.core.files import sha256
from components.core.tables import MANIFEST
from components.orchestration.pipeline_params import Params
from components.orchestration.retraining import worktree
from components.orchestration.retraining.pipeline_inputs import made_with
from components.orchestration.retraining.retrain_records import champion, now
from components.registry.release.retrain_log import (
    DONE,
    RetrainRecord,
    record,
    retrains,
    settled,
)
from components.registry.store.tracking_store import home
from components.registry.versions.reader import read_snapshot
from components.stages.ingest.survey import Survey

RUN = "gristmill run"  # the trigger of such a record
_UNKNOWN = "gristmill retrain will not know of this run: {}"


@dataclass(frozen=True)
class RunRecord:
    """A run that has begun: what is there now, for a source may grow while stages work."""

    root: Path
    params: Params
    made: RetrainRecord
    survey: Survey
    served: int  # when serve last wrote its report; 0: never

    def close(self, seconds: float) -> None:
        """Write down how it ended, unless that is known: a run of nothing new, or of what a retrain has done."""
        try:
            made = self._ended(seconds)
            shelf = read_snapshot(self.root, self.params.name)
            if made.outcome in DONE and not settled(retrains(shelf) if shelf else [], made.inputs):
                record(self.root, self.params.name, made)
        except GristmillError as error:
            console.print(_UNKNOWN.format(error.what), style="dim")

    def _ended(self, seconds: float) -> RetrainRecord:
        data = self.root / self.params.pipeline.data
        served = json.loads((data / "reports" / "serve.json").read_text(encoding="utf-8"))
        ran = _served(self.root, self.params) != self.served
        manifest = data / "clean" / MANIFEST
        return replace(
            self.made,
            outcome=served["decision"] if ran else "unchanged",
            detail=", ".join(
                filter(
                    None,
                    (
                        self.made.detail,
                        "" if ran else "DVC knew the result of serve",
                        *_refused(served if ran else {}),
                    ),
                )
            ),
            ended=now(),
            seconds={"run": round(seconds, 1)},
            source=self.survey.only(_learnt(data / "raw" / MANIFEST)).digest,
            data=sha256(manifest) if manifest.is_file() else "",
            version=served["version"],
            after=champion(self.root, self.params.name),
        )


def begin(root: Path, params: Params) -> Callable[[float], None]:
    """Look at what a run is made with.

    Returns:
        What to call, with the seconds that it took, when all stages have ended well. In a copy that does nothing: a retrain keeps the record.
    """
    if home(root) != root:
        return lambda _: None
    draft = RetrainRecord(
        uuid.uuid4().hex[:12],
        RUN,
        "failed",
        "",
        now(),
        "",
        {},
        "",
        "",
        "",
        "",
        0,
        before=champion(root, params.name),
    )
    try:
        made, found, _ = made_with(root, params, draft)
        if changed := worktree.uncommitted(
            root
        ):  # a retrain would run the code of HEAD, which this is not
            made = replace(
                made,
                code=digest_of((made.code + changed).encode()).hexdigest(),
                detail="with changes of the code that are not committed",
            )
    except GristmillError as error:
        why = error.what
        return lambda _: console.print(_UNKNOWN.format(why), style="dim")
    return RunRecord(root, params, made, found, _served(root, params)).close


def _served(root: Path, params: Params) -> int:
    with suppress(OSError):
        return (root / params.pipeline.data / "reports" / "serve.json").stat().st_mtime_ns
    return 0


def _refused(served: dict[str, dict[str, str]]) -> list[str]:
    return [
        gate
        for gate, verdict in served.get("gates", {}).items()
        if verdict in ("refused", "borderline")
    ]


def _learnt(manifest: Path) -> set[str]:
    """The files that ingest has read; feedback that was accepted since then is not among them, for DVC does not look at it."""
    with suppress(OSError):
        return {
            each["name"]
            for each in json.loads(manifest.read_text(encoding="utf-8")).get("files", ())
        }
    return set()
