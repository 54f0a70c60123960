"""Aliases and tags that follow from the release log. Services and people read them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from components.registry.release.release_log import ReleaseState, records, standing
from components.registry.versions.reader import RegistrySnapshot, read_snapshot

if TYPE_CHECKING:
    from mlflow import MlflowClient

_MAX_COLLISIONS = 5
# tag of a registered model: how many records its aliases follow from
SYNCED = "gristmill.settled"


def expected_aliases(state: ReleaseState) -> dict[str, int | None]:
    """Return the aliases that follow from the log: alias -> version, None for no alias."""
    return {"champion": state.champion, "previous": state.previous}


def differing_aliases(snapshot: RegistrySnapshot) -> bool:
    """Return whether an alias is not the one that follows from the log."""
    expected = expected_aliases(standing(records(snapshot)))
    return any(snapshot.aliases.get(alias) != number for alias, number in expected.items())


def aliases_are_synced(snapshot: RegistrySnapshot) -> bool:
    """Return whether every recorded change was made.

    Aliases that differ nevertheless were changed by hand.
    """
    return snapshot.tags.get(SYNCED, "0") == str(len(records(snapshot)))


def sync_aliases(opened: MlflowClient, root: Path, pipeline: str) -> None:
    """Bring aliases and tags in line with the log.

    The mark `SYNCED` is removed before and set again after. So a kill in between is seen, and
    repaired by the next call. Two processes that do this at once collide at each other's tags:
    MLflow inserts one twice, or deletes it twice. Then the registry is read again.

    Args:
        opened: the client.
        root: the project.
        pipeline: the registered model.
    """
    collisions = 0
    while (snapshot := read_snapshot(root, pipeline)) is not None:
        try:
            if aliases_are_synced(snapshot) and not differing_aliases(snapshot):
                _tag_versions(opened, snapshot, standing(records(snapshot)))
                return
            _move(opened, snapshot)
        except Exception:
            # an error of any kind: if the store is away, the next read will say so
            collisions += 1
            if collisions > _MAX_COLLISIONS:
                raise


def _move(opened: MlflowClient, snapshot: RegistrySnapshot) -> None:
    releases = records(snapshot)
    if SYNCED in snapshot.tags:
        opened.delete_registered_model_tag(snapshot.pipeline, SYNCED)
    for alias, number in reversed(expected_aliases(standing(releases)).items()):
        if number is not None and snapshot.aliases.get(alias) != number:
            opened.set_registered_model_alias(snapshot.pipeline, alias, str(number))
        elif number is None and alias in snapshot.aliases:
            opened.delete_registered_model_alias(snapshot.pipeline, alias)
    # Before the mark: after a kill in between, the next call sets the tags again.
    _tag_versions(opened, snapshot, standing(releases))
    opened.set_registered_model_tag(snapshot.pipeline, SYNCED, str(len(releases)))


def _tag_versions(opened: MlflowClient, snapshot: RegistrySnapshot, state: ReleaseState) -> None:
    """Tag each version with its last decision, and take the alias challenger from the champion."""
    pipeline = snapshot.pipeline
    if state.champion is not None and snapshot.aliases.get("challenger") == state.champion:
        opened.delete_registered_model_alias(pipeline, "challenger")
    for version in snapshot.versions:
        last = state.last.get(version.number)
        if last is None:
            continue
        tags = {
            "decision": last.decision,
            "decision_by": last.who,
            "decision_why": last.why,
        }
        for key, value in tags.items():
            if version.tags.get(key) != value:
                opened.set_model_version_tag(pipeline, str(version.number), key, value)
