"""What people ask for in the MLflow UI, by alias or tag, becomes recorded releases through the same gates.

On a version, `review.by` and `review.note` say who and why; then the tag `review` = `approve` or `reject`, or the alias `approved`, asks. The tag `review`
ends as what came of it. The alias `champion` moved by hand is a request too: it passes the gates, and is recorded as made by hand, or is put back.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from components.core.errors import EnvironmentFault, GristmillError
from components.registry.release.aliases import aliases_are_synced, expected_aliases, sync_aliases
from components.registry.release.gates import GateParams
from components.registry.release.promotion import approve, decide, reject, rollback
from components.registry.release.release_log import Release, ReleaseState, records, standing
from components.registry.store.tracking_store import client, reached, unavailable
from components.registry.validation import storable
from components.registry.versions.reader import RegistrySnapshot, Version, read_snapshot

ALIAS = "approved"
ASKS = ("approve", "reject")
NAMELESS = "somebody in MLflow"


def apply_mlflow_requests(root: Path, pipeline: str, limits: GateParams) -> list[Release]:
    """Finish what a kill interrupted, and turn what people asked for in MLflow into releases. Cheap where there is nothing to do.

    Args:
        root: the project.
        pipeline: the registered model.
        limits: as `approve` takes them.

    Returns:
        What was recorded.

    Raises:
        EnvironmentFault: the store does not answer.
    """
    shelf = read_snapshot(root, pipeline)
    if shelf is None:
        return []
    made = []
    if not aliases_are_synced(shelf):
        opened = client(root)
        with reached(root):
            sync_aliases(opened, root, pipeline)
    elif any(
        shelf.aliases.get(alias) != number
        for alias, number in expected_aliases(standing(records(shelf))).items()
    ):
        made.append(manual_alias_change(root, shelf, limits))
    made += [
        _answer(root, version, ask, limits)
        for version in shelf.versions
        if (ask := asked(version)) and version.tags.get("review.by", "").strip()
    ]
    return [each for each in made if each is not None]


def asked(version: Version) -> str:
    """What somebody wants of a version in MLflow: "approve", "reject" or nothing."""
    tag = version.tags.get("review", "").strip().lower()
    return tag if tag in ASKS else "approve" if ALIAS in version.aliases else ""


def _answer(root: Path, version: Version, ask: str, limits: GateParams) -> Release | None:
    """Do what was asked, and say on the version what came of it."""
    who, why = (
        version.tags["review.by"].strip(),
        version.tags.get("review.note", "").strip() or "asked in MLflow without a note",
    )
    made: Release | None = None
    outcome: str
    try:
        shelf = read_snapshot(root, version.pipeline)
        last = standing(records(shelf)).last.get(version.number) if shelf else None
        if last and (last.decision, last.who, last.why) == (
            {"approve": "promoted", "reject": "rejected"}[ask],
            who,
            why,
        ):
            outcome = last.decision  # done before, and killed before it was said
        else:
            give = {"who": who[:100], "why": why[:1000]}
            made = (
                approve(root, version.pipeline, version.number, limits, **give)
                if ask == "approve"
                else reject(root, version.pipeline, version.number, **give)
            )
            outcome = made.decision
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
    return made


def manual_alias_change(root: Path, shelf: RegistrySnapshot, limits: GateParams) -> Release | None:
    """An alias was moved past the log: the champion as a request, anything else is put right."""
    stand = standing(records(shelf))
    number = shelf.aliases.get("champion")
    if number is None or number == stand.champion:
        opened = client(root)
        with reached(root):
            sync_aliases(opened, root, shelf.pipeline)
        return None
    tags = shelf.version(number).tags
    who, why = (
        tags.get("review.by", "").strip() or NAMELESS,
        tags.get("review.note", "").strip() or "moved the alias champion by hand",
    )
    give = {"who": who[:100], "why": why[:1000]}
    try:
        return (
            rollback(root, shelf.pipeline, number, **give)
            if number in stand.released
            else approve(root, shelf.pipeline, number, limits, **give)
        )
    except EnvironmentFault:
        raise
    except GristmillError as error:
        return _put_back(root, shelf.pipeline, number, who, error.what)


def _put_back(root: Path, pipeline: str, number: int, who: str, reason: str) -> Release | None:
    def choose(shelf: RegistrySnapshot, stand: ReleaseState) -> Release | None:
        if shelf.aliases.get("champion") == stand.champion:
            return None  # another process was quicker
        now = datetime.now(UTC).isoformat(timespec="microseconds")
        return Release(
            "put back",
            number,
            stand.champion,
            [],
            "review",
            "gristmill",
            f"{who} moved the alias champion to version {number}; {reason}"[:1000],
            now,
        )

    return decide(root, pipeline, choose)
