"""The log of retrains, and of runs in the working tree that made a model, beside that of releases: numbered records in the same MLflow run, each written once."""

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
DONE = (
    "promoted",
    "refused",
    "waiting",
    "rejected",
    "unchanged",
)  # went all the way: the same data, code and params need not do it again
_WORDS = 1000  # characters of trigger, detail and cursor each
_COLUMNS = 60  # of a source that are kept
_WIDTHS = (0, 48, 24, 12)  # the least takes 60 columns in less than half of a record


@dataclass(frozen=True)
class RetrainRecord:
    """One retrain, or one run that made a model, and how it ended."""

    id: str  # for ever: what is written a second time is the same record
    trigger: str
    outcome: str  # one of DONE | failed | killed | stopped | source refused
    detail: str
    began: str  # ISO 8601, UTC
    ended: str
    seconds: Mapping[str, float]  # stage -> how long
    commit: str
    code: str  # digests of what it was made with
    params: str
    source: str
    rows: int  # of the source
    columns: Mapping[str, str] = field(default_factory=dict)  # name -> type
    width: int = 0  # characters of a name or a type in `columns`, see `cut`; 0: all
    cursor: str = ""  # of a source that is a database: up to where it was pulled
    data: str = ""  # data_hash
    split: str = ""  # digest of the frozen split that it kept; "" if it made one
    version: int | None = None
    before: int | None = None  # the champion at its beginning
    after: int | None = None  # and at its end

    @property
    def inputs(self) -> tuple[str, str, str]:
        """Equal for retrains that would do the same."""
        return self.code, self.params, self.source

    @classmethod
    def read(cls, facts: Mapping[str, Any]) -> RetrainRecord:
        """Of `asdict`; what another version of gristmill wrote beside is passed over."""
        known = {each.name for each in fields(cls)}
        return cls(**{key: value for key, value in facts.items() if key in known})


def retrains(shelf: RegistrySnapshot) -> list[RetrainRecord]:
    """All of them, oldest first."""
    found = []
    for key, text in sorted(shelf.params.items()):
        if key.startswith(PLACE):
            # Somebody else may have written a param under such a name.
            with suppress(InputError, TypeError):
                found.append(RetrainRecord.read(json_value(text, dict, "registry")))
    return found


def last_done(made: Sequence[RetrainRecord]) -> RetrainRecord | None:
    """The latest that went all the way."""
    return next((each for each in reversed(made) if each.outcome in DONE), None)


def settled(made: Sequence[RetrainRecord], inputs: tuple[str, str, str]) -> RetrainRecord | None:
    """The latest that went all the way with these inputs. What lies before a change of the champion is not asked: against the new one it may go otherwise."""
    for each in reversed(made):
        if each.outcome in DONE and each.inputs == inputs:
            return each
        if each.after != each.before:
            return None
    return None


def cut(columns: Mapping[str, str], width: int) -> dict[str, str]:
    """Columns whose names and types are no longer than a width: the start of a longer one, and a digest of all of it."""

    def short(text: str) -> str:
        return (
            f"{text[: width - 9]}…{sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()[:8]}"
            if 0 < width < len(text)
            else text
        )

    return {short(name): short(kind) for name, kind in columns.items()}


def _text(made: RetrainRecord) -> str:
    """A record as the registry takes it: with as much of its columns as there is room for."""
    columns = dict(list(made.columns.items())[:_COLUMNS])
    words = {name: getattr(made, name)[:_WORDS] for name in ("trigger", "detail", "cursor")}
    texts = (
        json.dumps(
            asdict(made) | words | {"columns": cut(columns, width), "width": width},
            ensure_ascii=False,
        )
        for width in _WIDTHS
    )
    return min(texts, key=lambda text: len(text) > LONGEST)


def record(root: Path, pipeline: str, made: RetrainRecord) -> None:
    """Write a retrain down, once, however often this is called.

    Raises:
        EnvironmentFault: the store does not answer.
        InputError: it is too long for the store all the same.
    """
    text = _text(made)
    opened = client(root)
    with reached(root):
        run = open_log(opened, root, pipeline)
        for _ in range(100):
            shelf = read_snapshot(root, pipeline)
            assert shelf is not None, "open_log has made it"
            if any(each.id == made.id for each in retrains(shelf)) or write(
                opened, root, run, shelf, PLACE, text
            ):
                return
    raise EnvironmentFault(
        "others write retrains all the time", where="registry", remedy="run the same command again"
    )
