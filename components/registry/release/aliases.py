"""Aliases and tags that follow from the log of releases: what services and people look at."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from components.registry.release.release_log import ReleaseState, records, standing
from components.registry.versions.reader import RegistrySnapshot, read_snapshot

if TYPE_CHECKING:
    from mlflow import MlflowClient

_STUMBLES = 5
SETTLED = "gristmill.settled"  # tag of a registered model: how many records its aliases follow from


def expected_aliases(stand: ReleaseState) -> dict[str, int | None]:
    """The aliases that follow from the log."""
    return {"champion": stand.champion, "previous": stand.previous}


def aliases_are_synced(shelf: RegistrySnapshot) -> bool:
    """Whether every recorded move was made. Aliases that differ nevertheless were moved by hand."""
    return shelf.tags.get(SETTLED, "0") == str(len(records(shelf)))


def sync_aliases(opened: MlflowClient, root: Path, pipeline: str) -> None:
    """Bring aliases and tags in line with the log. The mark goes before and comes back after, so that a kill in between is seen, and mended by the next call.

    Two that settle at once stumble over each other's tags (MLflow inserts one twice, or deletes it twice): then it is looked at again.
    """
    stumbled = 0
    while (shelf := read_snapshot(root, pipeline)) is not None:
        try:
            if _is_right(shelf):
                _label(opened, shelf, standing(records(shelf)))
                return
            _move(opened, shelf)
        except Exception:  # of whatever kind: if the store is away, looking will say so
            stumbled += 1
            if stumbled > _STUMBLES:
                raise


def _is_right(shelf: RegistrySnapshot) -> bool:
    return aliases_are_synced(shelf) and all(
        shelf.aliases.get(alias) == number
        for alias, number in expected_aliases(standing(records(shelf))).items()
    )


def _move(opened: MlflowClient, shelf: RegistrySnapshot) -> None:
    decided = records(shelf)
    if SETTLED in shelf.tags:
        opened.delete_registered_model_tag(shelf.pipeline, SETTLED)
    for alias, number in reversed(expected_aliases(standing(decided)).items()):
        if number is not None and shelf.aliases.get(alias) != number:
            opened.set_registered_model_alias(shelf.pipeline, alias, str(number))
        elif number is None and alias in shelf.aliases:
            opened.delete_registered_model_alias(shelf.pipeline, alias)
    opened.set_registered_model_tag(shelf.pipeline, SETTLED, str(len(decided)))


def _label(opened: MlflowClient, shelf: RegistrySnapshot, stand: ReleaseState) -> None:
    """Say on each version what was decided last, and that the champion challenges nobody."""
    if stand.champion is not None and shelf.aliases.get("challenger") == stand.champion:
        opened.delete_registered_model_alias(shelf.pipeline, "challenger")
    for version in shelf.versions:
        last = stand.last.get(version.number)
        for key, value in (
            (("decision", last.decision), ("decision_by", last.who), ("decision_why", last.why))
            if last
            else ()
        ):
            if version.tags.get(key) != value:
                opened.set_model_version_tag(shelf.pipeline, str(version.number), key, value)
