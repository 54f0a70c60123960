"""Requests that people make in the MLflow UI become recorded releases through the same gates.

On a version, the tags `review.by` and `review.note` say who and why. Then the tag `review` =
`approve` or `reject`, or the alias `approved`, makes the request. At the end the tag `review` holds
the outcome. The alias `champion` moved by hand is a request too: it passes the gates and is
recorded as made by hand, or is put back.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from components.core.errors import EnvironmentFault, GristmillError
from components.registry.release.aliases import (
    aliases_are_synced,
    differing_aliases,
    sync_aliases,
)
from components.registry.release.gates import GateRules
from components.registry.release.promotion import approve, decide, reject, rollback
from components.registry.release.release_log import (
    Decision,
    Release,
    ReleaseState,
    records,
    standing,
)
from components.registry.store.tracking_store import client, reached, unavailable
from components.registry.validation import storable
from components.registry.versions.reader import RegistrySnapshot, Version, read_snapshot

ALIAS = "approved"
ASKS = ("approve", "reject")
NAMELESS = "somebody in MLflow"
# characters of a record
_MAX_WHO = 100
_MAX_WHY = 1000


def apply_mlflow_requests(root: Path, pipeline: str, rules: GateRules) -> list[Release]:
    """Finish what a kill interrupted, and record the requests that people made in MLflow.

    It is cheap where there is nothing to do.

    Args:
        root: the project.
        pipeline: the registered model.
        rules: as `approve` takes them.

    Returns:
        The decisions that were recorded.

    Raises:
        EnvironmentFault: the store does not answer.
    """
    snapshot = read_snapshot(root, pipeline)
    if snapshot is None:
        return []
    releases = []
    if not aliases_are_synced(snapshot):
        _sync(root, pipeline)
    elif differing_aliases(snapshot):
        releases.append(manual_alias_change(root, snapshot, rules))
    for version in snapshot.versions:
        request = requested_decision(version)
        if request and version.tags.get("review.by", "").strip():
            releases.append(_answer(root, version, request, rules))
    return [release for release in releases if release is not None]


def _sync(root: Path, pipeline: str) -> None:
    opened = client(root)
    with reached(root):
        sync_aliases(opened, root, pipeline)


def requested_decision(version: Version) -> str:
    """Return the request for a version in MLflow: "approve", "reject" or ""."""
    tag = version.tags.get("review", "").strip().lower()
    if tag in ASKS:
        return tag
    return "approve" if ALIAS in version.aliases else ""


def _answer(root: Path, version: Version, request: str, rules: GateRules) -> Release | None:
    """Execute a request, and write its outcome to the tag of the version."""
    who = version.tags["review.by"].strip()
    why = version.tags.get("review.note", "").strip() or "asked in MLflow without a note"
    release: Release | None = None
    outcome: str
    try:
        earlier = _already_done(root, version, request, who, why)
        if earlier:
            outcome = earlier
        else:
            release = _execute(root, version, request, rules, who, why)
            outcome = release.decision
    except EnvironmentFault:
        raise
    except GristmillError as error:
        outcome = f"not done: {error.what}"
    except Exception as error:
        if unavailable(error):
            raise
        # One version whose tags nobody can read must not keep the others waiting for ever.
        outcome = f"not done: {type(error).__name__}: {error}"
    opened = client(root)
    with reached(root):
        if ALIAS in version.aliases:
            opened.delete_registered_model_alias(version.pipeline, ALIAS)
        opened.set_model_version_tag(
            version.pipeline, str(version.number), "review", storable(outcome)
        )
    return release


def _already_done(
    root: Path, version: Version, request: str, who: str, why: str
) -> Decision | None:
    """Return the decision if a process recorded it and was killed before it wrote the outcome."""
    snapshot = read_snapshot(root, version.pipeline)
    if snapshot is None:
        return None
    last = standing(records(snapshot)).last.get(version.number)
    decision = {"approve": "promoted", "reject": "rejected"}[request]
    if last and (last.decision, last.who, last.why) == (decision, who, why):
        return last.decision
    return None


def _execute(
    root: Path, version: Version, request: str, rules: GateRules, who: str, why: str
) -> Release:
    words = {"who": who[:_MAX_WHO], "why": why[:_MAX_WHY]}
    if request == "approve":
        return approve(root, version.pipeline, version.number, rules, **words)
    return reject(root, version.pipeline, version.number, **words)


def manual_alias_change(root: Path, snapshot: RegistrySnapshot, rules: GateRules) -> Release | None:
    """Handle an alias that was moved by hand.

    A champion is taken as a request. Any other alias is put back.

    Args:
        root: the project.
        snapshot: of the registry.
        rules: as `approve` takes them.

    Returns:
        The decision that was recorded, if any.
    """
    state = standing(records(snapshot))
    number = snapshot.aliases.get("champion")
    if number is None or number == state.champion:
        _sync(root, snapshot.pipeline)
        return None
    tags = snapshot.version(number).tags
    who = tags.get("review.by", "").strip() or NAMELESS
    why = tags.get("review.note", "").strip() or "moved the alias champion by hand"
    words = {"who": who[:_MAX_WHO], "why": why[:_MAX_WHY]}
    try:
        if number in state.released:
            return rollback(root, snapshot.pipeline, number, **words)
        return approve(root, snapshot.pipeline, number, rules, **words)
    except EnvironmentFault:
        raise
    except GristmillError as error:
        return _put_back(root, snapshot.pipeline, number, who, error.what)


def _put_back(
    root: Path,
    pipeline: str,
    number: int,
    who: str,
    reason: str,
) -> Release | None:
    def choose(snapshot: RegistrySnapshot, state: ReleaseState) -> Release | None:
        # another process was quicker
        if snapshot.aliases.get("champion") == state.champion:
            return None
        why = f"{who} moved the alias champion to version {number}; {reason}"
        return Release(
            decision="put back",
            version=number,
            before=state.champion,
            gates=[],
            mode="review",
            who="gristmill",
            why=why[:_MAX_WHY],
            when=datetime.now(UTC).isoformat(timespec="microseconds"),
        )

    return decide(root, pipeline, choose)
