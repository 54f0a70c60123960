"""The release log: what was decided about the champion, by whom and why.

The log only grows, and the champion follows from it. The records of a pipeline are the params of
one MLflow run, numbered. MLflow accepts a param once and refuses another value under the same
name, in every store and over every server. So a record cannot be overwritten. Of two processes
that decide at the same moment one finds its number taken, reads the log again and decides anew.
No lock is needed, and a kill can leave none behind.
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
# tags of the registered model, in stores of earlier versions of gristmill
_OLD = "release."
# characters of a param
LONGEST = 6000


@dataclass(frozen=True)
class Release:
    """One decision about the champion.

    Attributes:
        decision: what was decided.
        version: about which version.
        before: the champion at that moment.
        gates: of the version, as `as_rows` returns them.
        mode: auto or review.
        who: the person or program.
        why: the reason.
        when: ISO 8601, UTC.
        overrides: gates that the person answers for.
    """

    decision: Decision
    version: int
    before: int | None
    gates: list[dict[str, Any]]
    mode: str
    who: str
    why: str
    when: str
    overrides: list[str] = field(default_factory=list)

    @property
    def refused_by(self) -> list[str]:
        """Return the names of the gates that were not passed."""
        return [gate["name"] for gate in self.gates if gate["passed"] is False]

    @property
    def after(self) -> int | None:
        """Return the champion from then on."""
        return self.version if self.decision in MOVES else self.before


@dataclass(frozen=True)
class ReleaseState:
    """The state that follows from the release log.

    Attributes:
        line: champions that rollbacks would go through, the present one last.
        released: versions that were champion once.
        rejected: by a person, and not released since.
        withdrawn: a person rolled back from them, and nobody released them since.
        last: the latest decision on each version.
    """

    line: tuple[int, ...]
    released: frozenset[int]
    rejected: frozenset[int]
    withdrawn: frozenset[int]
    last: Mapping[int, Release]

    @property
    def champion(self) -> int | None:
        """Return the version to be served."""
        return self.line[-1] if self.line else None

    @property
    def previous(self) -> int | None:
        """Return the version that `gristmill rollback` releases."""
        return self.line[-2] if len(self.line) > 1 else None


def records(snapshot: RegistrySnapshot) -> list[Release]:
    """Return all decisions, oldest first."""
    old = [value for key, value in sorted(snapshot.tags.items()) if key.startswith(_OLD)]
    releases = [release for text in old if (release := _parse(text)) is not None]
    return [*releases, *numbered_records(snapshot).values()]


def numbered_records(snapshot: RegistrySnapshot) -> dict[str, Release]:
    """Return the decisions in the run of releases, oldest first: name of the param -> decision."""
    numbered = {}
    for key, text in sorted(snapshot.params.items()):
        release = _parse(text) if key.startswith(PLACE) else None
        if release is not None:
            numbered[key] = release
    return numbered


def _parse(text: str) -> Release | None:
    """Parse a record; None for a param or tag that somebody else wrote under such a name."""
    names = {item.name for item in fields(Release)}
    try:
        row = json_value(text, dict, "registry")
        release = Release(**{key: value for key, value in row.items() if key in names})
    except (InputError, TypeError):
        return None
    return release if _is_release(release) else None


def _is_release(release: Release) -> bool:
    """Return whether the values of a record have the right types."""
    words = (release.mode, release.who, release.why, release.when)
    return (
        release.decision in get_args(Decision)
        and type(release.version) is int
        and (release.before is None or type(release.before) is int)
        and all(isinstance(word, str) for word in words)
        and isinstance(release.gates, list)
        and isinstance(release.overrides, list)
    )


def history(root: Path, pipeline: str) -> list[Release]:
    """Return all decisions, oldest first.

    Raises:
        EnvironmentFault: the store does not answer.
    """
    snapshot = read_snapshot(root, pipeline)
    return records(snapshot) if snapshot else []


def standing(releases: Sequence[Release]) -> ReleaseState:
    """Return the state after these decisions, oldest first."""
    line: tuple[int, ...] = ()
    released = set[int]()
    rejected = set[int]()
    withdrawn = set[int]()
    last = dict[int, Release]()
    for release in releases:
        version = release.version
        last[version] = release
        if release.decision == "rejected":
            rejected.add(version)
        if release.decision not in MOVES:
            continue
        if release.decision == "rolled back":
            shorter = line[: line.index(version)] if version in line else line[:-1]
            withdrawn |= set(line) - set(shorter)
            line = shorter
        line = (*(other for other in line if other != version), version)
        released.add(version)
        rejected.discard(version)
        withdrawn.discard(version)
    return ReleaseState(line, frozenset(released), frozenset(rejected), frozenset(withdrawn), last)


def open_log(opened: MlflowClient, root: Path, pipeline: str) -> str:
    """Return the run that holds the records.

    It is made together with the registered model in one call, so that there is one run.

    Args:
        opened: the client.
        root: the project.
        pipeline: the registered model.
    """
    from mlflow.exceptions import MlflowException

    model = next(iter(opened.search_registered_models(f"name = '{pipeline}'")), None)
    if model is not None and LOG in model.tags:
        return str(model.tags[LOG])
    experiment_id = experiment(opened, root, pipeline)
    run = opened.create_run(experiment_id, run_name="releases", tags={LOG: pipeline}).info.run_id
    opened.set_terminated(run)
    # the model is of an earlier version of gristmill
    if model is not None:
        opened.set_registered_model_tag(pipeline, LOG, run)
        return str(run)
    try:
        page = (
            "All decisions about its champion are params of the run "
            f"[releases](#/experiments/{experiment_id}/runs/{run}); "
            "`gristmill history` shows them."
        )
        opened.create_registered_model(pipeline, tags={LOG: run}, description=page)
    except MlflowException as error:
        opened.delete_run(run)
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
        return open_log(opened, root, pipeline)
    return str(run)


def append(
    opened: MlflowClient, root: Path, run: str, snapshot: RegistrySnapshot, release: Release
) -> bool:
    """Write a record behind those of a snapshot.

    Returns:
        Whether the number was free; if not, somebody else has decided meanwhile.
    """
    text = json.dumps(asdict(release), ensure_ascii=False)
    return write(opened, root, run, snapshot, PLACE, text)


def _free_key(snapshot: RegistrySnapshot, kind: str) -> str:
    """Return the name of the next record of a kind; numbers that are taken are skipped."""
    number = sum(key.startswith(kind) for key in snapshot.params) + 1
    while f"{kind}{number:06d}" in snapshot.params:
        number += 1
    return f"{kind}{number:06d}"


def write(
    opened: MlflowClient, root: Path, run: str, snapshot: RegistrySnapshot, kind: str, text: str
) -> bool:
    """Write a record of a kind behind those of a snapshot.

    Args:
        opened: the client.
        root: the project.
        run: that holds the records.
        snapshot: of the registry.
        kind: the beginning of the name: `release.` or another.
        text: of the record.

    Returns:
        Whether the number was free.

    Raises:
        InputError: the record is too long.
    """
    if len(text) > LONGEST:
        raise InputError(
            f"a record of {len(text)} characters is too long for MLflow, which takes {LONGEST}",
            remedy="say it in fewer words",
        )
    key = _free_key(snapshot, kind)
    # somebody deleted the run in the UI
    if opened.get_run(run).info.lifecycle_stage == "deleted":
        opened.restore_run(run)
    try:
        opened.log_param(run, key, text)
        return True
    except Exception:
        latest = read_snapshot(root, snapshot.pipeline)
        if latest is None or key not in latest.params:
            raise
        # the answer was lost, not the record
        return latest.params[key] == text
