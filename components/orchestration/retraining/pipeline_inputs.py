"""What a pipeline would be made with at this moment: its source, its code, its params."""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256 as digest_of
from pathlib import Path

from components.core.files import to_json, write_atomic
from components.orchestration.pipeline_params import Params
from components.orchestration.retraining import worktree
from components.orchestration.retraining.retrain_records import RetrainLog
from components.registry.release.retrain_log import RetrainRecord
from components.stages.ingest.params import IngestParams
from components.stages.ingest.survey import Survey, read_known, survey


def made_with(
    root: Path, params: Params, made: RetrainRecord
) -> tuple[RetrainRecord, Survey, list[str]]:
    """A record with what a retrain would be made with now, what its source is like, and files of the code that it would not see.

    Raises:
        InputError: the source cannot be read, or no commit is there to take the code from.
        EnvironmentFault: git does not answer, the disk is full.
    """
    ingest: IngestParams = params.sections["ingest"]  # type: ignore[assignment]
    seen = RetrainLog(root, params.name).folder / "seen.json"
    known = read_known(seen)
    before = to_json(known)
    found = survey(ingest, root, known)
    if to_json(known) != before:
        write_atomic(seen, to_json(known))
    code = worktree.code_of(root)
    facts = replace(
        made,
        commit=code.commit,
        code=digest_of(code.digest.encode()).hexdigest(),
        params=params.digest_up_to("serve"),
        source=found.digest,
        rows=found.rows,
        columns=dict(found.columns),
        cursor=found.cursor,
    )
    return facts, found, code.left_out
