"""The inputs of a pipeline at this moment: its source, its code and its params."""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256 as digest_of
from pathlib import Path

from components.core.files import to_json, write_atomic
from components.orchestration.pipeline_params import Params
from components.orchestration.retraining import project_copy
from components.orchestration.retraining.retrain_log import RetrainLog
from components.registry.release.retrain_record import RetrainRecord
from components.stages.ingest.params import IngestParams
from components.stages.ingest.survey import Survey, read_known, survey
from components.tasks import base


def read_inputs(
    root: Path, params: Params, retrain: RetrainRecord
) -> tuple[RetrainRecord, Survey, list[str]]:
    """Return a record with the inputs that a retrain would have now.

    Args:
        root: of the project.
        params: of the pipeline.
        retrain: the record without inputs.

    Returns:
        The record, the survey of the source, and the files of the code whose changes the retrain
        would not see.

    Raises:
        InputError: the source cannot be read, or there is no commit to take the code from.
        EnvironmentFault: git does not answer, or the disk is full.
    """
    ingest: IngestParams = params.sections["ingest"]  # type: ignore[assignment]
    cache = RetrainLog(root, params.name).folder / "seen.json"
    hashes = read_known(cache)
    before = to_json(hashes)
    # The survey adds the hashes of new files.
    source = survey(ingest, root, hashes, base.schema(params.task).targets.words)
    after = to_json(hashes)
    if after != before:
        write_atomic(cache, after)
    code = project_copy.code_of(root)
    record = replace(
        retrain,
        commit=code.commit,
        code=digest_of(code.digest.encode()).hexdigest(),
        params=params.digest_up_to("serve"),
        source=source.digest,
        rows=source.rows,
        columns=dict(source.columns),
        cursor=source.cursor,
    )
    return record, source, code.left_out
