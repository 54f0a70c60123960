"""The log of releases: what was decided about the champion, by whom and why. It only grows; who is champion follows from it.

The records of a pipeline are the params of one MLflow run, numbered. MLflow takes a param once and refuses another value under the same name, in
every store and over every server; so a record cannot be written over, and of two processes that decide at the same moment one finds its number
taken, looks again and decides anew. No lock can be left behind by a kill, and none is needed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from components.core.errors import InputError
from components.registry.store.tracking_store import experiment
from components.registry.validation import json_value
from components.registry.versions.reader import LOG, PLACE, RegistrySnapshot, read_snapshot

if TYPE_CHECKING:
    from mlflow import MlflowClient

Decision = Literal[
    "promoted",
    "refused",
    "waiting",
    "experiment",
    "unchanged",
    "rejected",
    "rolled back",
    "put back",
]
MOVES = ("promoted", "rolled back")
_OLD = "release."  # tags of the registered model, in stores of earlier versions of gristmill
LONGEST = 6000  # characters of a param


@dataclass(frozen=True)
class Release:
    """One decision about the champion."""

    decision: Decision
    version: int
    before: int | None  # the champion at that moment
    gates: list[dict[str, Any]]
    mode: str
    who: str
    why: str
    when: str  # ISO 8601, UTC
    overrides: list[str] = field(default_factory=list)  # gates that the person answers for

    @property
    def refused_by(self) -> list[str]:
        """The names of the gates that were not passed."""
        return [gate["name"] for gate in self.gates if gate["passed"] is False]

    @property
    def after(self) -> int | None:
        """The champion from then on."""
        return self.version if self.decision in MOVES else self.before


@dataclass(frozen=True)
class ReleaseState:
    """What follows from the log."""

    line: tuple[int, ...]  # champions that a rollback would go through, the present one last
    released: frozenset[int]  # were champion once
    rejected: frozenset[int]  # by a person, and not released since
    withdrawn: frozenset[int]  # a person rolled back from them, and nobody released them since
    last: Mapping[int, Release]  # the latest decision on each version

    @property
    def champion(self) -> int | None:
        """The version to be served."""
        return self.line[-1] if self.line else None

    @property
    def previous(self) -> int | None:
        """Where `gristmill rollback` goes."""
        return self.line[-2] if len(self.line) > 1 else None


def records(shelf: RegistrySnapshot) -> list[Release]:
    """All decisions, oldest first."""
    old = [value for key, value in sorted(shelf.tags.items()) if key.startswith(_OLD)]
    new = [value for key, value in sorted(shelf.params.items()) if key.startswith(PLACE)]
    read = [_read(text) for text in (*old, *new)]
    return [each for each in read if each is not None]


def _read(text: str) -> Release | None:
    """Parse a record; None for a param or tag that somebody else wrote under such a name."""
    known = {each.name for each in fields(Release)}
    try:
        facts = json_value(text, dict, "registry")
        made = Release(**{key: value for key, value in facts.items() if key in known})
    except (InputError, TypeError):
        return None
    words = (made.mode, made.who, made.why, made.when)
    is_release = (
        made.decision in get_args(Decision)
        and type(made.version) is int
        and (made.before is None or type(made.before) is int)
        and all(isinstance(word, str) for word in words)
        and isinstance(made.gates, list)
        and isinstance(made.overrides, list)
    )
    return made if is_release else None


def history(root: Path, pipeline: str) -> list[Release]:
    """All decisions, oldest first.

    Raises:
        EnvironmentFault: the store does not answer.
    """
    shelf = read_snapshot(root, pipeline)
    return records(shelf) if shelf else []


def standing(decided: Sequence[Release]) -> ReleaseState:
    """Who is champion after these decisions, and what of the others."""
    line: tuple[int, ...] = ()
    released, rejected, withdrawn, last = set[int](), set[int](), set[int](), dict[int, Release]()
    for each in decided:
        last[each.version] = each
        if each.decision == "rejected":
            rejected.add(each.version)
        if each.decision not in MOVES:
            continue
        if each.decision == "rolled back":
            kept = line[: line.index(each.version)] if each.version in line else line[:-1]
            withdrawn |= set(line) - set(kept)
            line = kept
        line = (*(other for other in line if other != each.version), each.version)
        released.add(each.version)
        rejected.discard(each.version)
        withdrawn.discard(each.version)
    return ReleaseState(line, frozenset(released), frozenset(rejected), frozenset(withdrawn), last)


def open_log(opened: MlflowClient, root: Path, pipeline: str) -> str:
    """The run that holds the records: made together with the registered model, in one call, so that there is one."""
    from mlflow.exceptions import MlflowException

    model = next(iter(opened.search_registered_models(f"name = '{pipeline}'")), None)
    if model is not None and LOG in model.tags:
        return str(model.tags[LOG])
    kept_in = experiment(opened, root, pipeline)
    run = opened.create_run(kept_in, run_name="releases", tags={LOG: pipeline}).info.run_id
    opened.set_terminated(run)
    if model is not None:  # of an earlier version of gristmill
        opened.set_registered_model_tag(pipeline, LOG, run)
        return str(run)
    try:
        page = f"All decisions about its champion are params of the run [releases](#/experiments/{kept_in}/runs/{run}); `gristmill history` shows them."
        opened.create_registered_model(pipeline, tags={LOG: run}, description=page)
    except MlflowException as error:
        opened.delete_run(run)
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
        return open_log(opened, root, pipeline)
    return str(run)


def append(
    opened: MlflowClient, root: Path, run: str, shelf: RegistrySnapshot, made: Release
) -> bool:
    """Write a record down behind those on the shelf.

    Returns:
        Whether the place was free; if not, somebody else has decided meanwhile.
    """
    return write(opened, root, run, shelf, PLACE, json.dumps(asdict(made), ensure_ascii=False))


def _free_place(shelf: RegistrySnapshot, kind: str) -> str:
    """Return the name of the next record of a kind; somebody may have taken one further on."""
    number = sum(key.startswith(kind) for key in shelf.params) + 1
    while f"{kind}{number:06d}" in shelf.params:
        number += 1
    return f"{kind}{number:06d}"


def write(
    opened: MlflowClient, root: Path, run: str, shelf: RegistrySnapshot, kind: str, text: str
) -> bool:
    """Write a record of a kind, `release.` or another, behind those on the shelf.

    Returns:
        Whether the place was free.
    """
    if len(text) > LONGEST:
        raise InputError(
            f"a record of {len(text)} characters is too long for MLflow, which takes {LONGEST}",
            remedy="say it in fewer words",
        )
    place = _free_place(shelf, kind)
    if opened.get_run(run).info.lifecycle_stage == "deleted":  # by hand, in the UI
        opened.restore_run(run)
    try:
        opened.log_param(run, place, text)
        return True
    except Exception:
        found = read_snapshot(root, shelf.pipeline)
        if found is None or place not in found.params:
            raise
        return found.params[place] == text  # the answer was lost, not the record
