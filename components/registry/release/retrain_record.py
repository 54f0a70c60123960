"""The record of a retrain, or of a run in the working tree that made a model.

Records are in the same MLflow run as the release log: they are numbered, and each is written once.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields
from hashlib import sha256
from pathlib import Path
from typing import Any

from components.core.errors import EnvironmentFault, InputError
from components.registry.release.release_log import LONGEST, open_log, write
from components.registry.store.tracking_store import client, reached
from components.registry.validation import json_value
from components.registry.versions.reader import RegistrySnapshot, read_snapshot

PLACE = "retrain."
# Outcomes of complete retrains: the same data, code and params need not be trained again.
DONE = (
    "promoted",
    "refused",
    "waiting",
    "rejected",
    "unchanged",
)
# characters of trigger, detail and cursor each
_WORDS = 1000
# columns of a source that are recorded
_COLUMNS = 60
# with the least width 60 columns take less than half of a record
_WIDTHS = (0, 48, 24, 12)


@dataclass(frozen=True)
class RetrainRecord:
    """One retrain, or one run that made a model, and how it ended.

    Attributes:
        id: a record written a second time with the same id is the same record.
        trigger: what started it.
        outcome: one of DONE | failed | killed | stopped | source refused.
        detail: of the outcome.
        began: ISO 8601, UTC.
        ended: ISO 8601, UTC.
        seconds: stage -> how long.
        commit: of git.
        code: digest of the code that it was made with.
        params: digest of the params that it was made with.
        source: digest of the source that it was made with.
        rows: of the source.
        columns: name -> type.
        width: characters of a name or a type in `columns`, see `cut`; 0: all.
        cursor: of a source that is a database: up to where it was pulled.
        data: data_hash.
        split: digest of the frozen split that it used; "" if it made one.
        version: that it registered.
        before: the champion at its beginning.
        after: the champion at its end.
    """

    id: str
    trigger: str
    outcome: str
    detail: str
    began: str
    ended: str
    seconds: Mapping[str, float]
    commit: str
    code: str
    params: str
    source: str
    rows: int
    columns: Mapping[str, str] = field(default_factory=dict)
    width: int = 0
    cursor: str = ""
    data: str = ""
    split: str = ""
    version: int | None = None
    before: int | None = None
    after: int | None = None

    @property
    def inputs(self) -> tuple[str, str, str]:
        """Return the digests of the inputs; retrains with equal inputs would do the same."""
        return self.code, self.params, self.source

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> RetrainRecord:
        """Return the record of `asdict`; fields of another version of gristmill are ignored."""
        names = {item.name for item in fields(cls)}
        return cls(**{key: value for key, value in values.items() if key in names})


def retrains(snapshot: RegistrySnapshot) -> list[RetrainRecord]:
    """Return all records, oldest first."""
    retrains = []
    for key, text in sorted(snapshot.params.items()):
        if key.startswith(PLACE):
            # Somebody else may have written a param under such a name.
            with suppress(InputError, TypeError):
                retrains.append(RetrainRecord.read(json_value(text, dict, "registry")))
    return retrains


def last_done(retrains: Sequence[RetrainRecord]) -> RetrainRecord | None:
    """Return the latest complete retrain, or None."""
    return next((retrain for retrain in reversed(retrains) if retrain.outcome in DONE), None)


def completed_retrain(
    retrains: Sequence[RetrainRecord], inputs: tuple[str, str, str]
) -> RetrainRecord | None:
    """Return the latest complete retrain with these inputs, or None.

    Retrains before a change of the champion do not count: against the new champion the outcome
    may be another one.
    """
    for retrain in reversed(retrains):
        if retrain.outcome in DONE and retrain.inputs == inputs:
            return retrain
        if retrain.after != retrain.before:
            return None
    return None


def truncate_columns(columns: Mapping[str, str], width: int) -> dict[str, str]:
    """Return columns whose names and types are no longer than a width.

    A longer one becomes its start and a digest of all of it.

    Args:
        columns: name -> type.
        width: in characters; 0: any.
    """

    def short(text: str) -> str:
        if not 0 < width < len(text):
            return text
        digest = sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
        return f"{text[: width - 9]}…{digest[:8]}"

    return {short(name): short(kind) for name, kind in columns.items()}


def _text(retrain: RetrainRecord) -> str:
    """Return a record as JSON, with as much of its columns as fits into a param."""
    columns = dict(list(retrain.columns.items())[:_COLUMNS])
    words = {name: getattr(retrain, name)[:_WORDS] for name in ("trigger", "detail", "cursor")}

    def text_of(width: int) -> str:
        values = (
            asdict(retrain) | words | {"columns": truncate_columns(columns, width), "width": width}
        )
        return json.dumps(values, ensure_ascii=False)

    texts = (text_of(width) for width in _WIDTHS)
    return min(texts, key=lambda text: len(text) > LONGEST)


def record(root: Path, pipeline: str, retrain: RetrainRecord) -> None:
    """Write a retrain to the log once, however often this is called.

    Raises:
        EnvironmentFault: the store does not answer.
        InputError: it is too long for the store even with shortened columns.
    """
    text = _text(retrain)
    opened = client(root)
    with reached(root):
        run = open_log(opened, root, pipeline)
        for _ in range(100):
            snapshot = read_snapshot(root, pipeline)
            assert snapshot is not None, "open_log has made it"
            if any(other.id == retrain.id for other in retrains(snapshot)):
                return
            if write(opened, root, run, snapshot, PLACE, text):
                return
    raise EnvironmentFault(
        "others write retrains all the time", where="registry", remedy="run the same command again"
    )
