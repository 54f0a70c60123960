"""Release: the only thing that moves the champion. Every decision is recorded before anything moves."""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from components.registry.gates import Gate, all_passed, as_rows
from components.registry.store import client, reached

Decision = Literal["promoted", "refused", "waiting", "experiment", "unchanged"]
_RECORD = "release."


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

    @property
    def refused_by(self) -> list[str]:
        """The names of the gates that were not passed."""
        return [gate["name"] for gate in self.gates if gate["passed"] is False]


def release(root: Path, pipeline: str, version: int, gates: Sequence[Gate], *, mode: Literal["auto", "review"], who: str, why: str, experiment: bool = False) -> Release:
    """Decide whether a version becomes champion, record that, then do it.

    The record is a tag of the registered model under a key of its own and is never written over. It comes before the alias: a kill in between
    leaves a record without its move, which the next call repeats, never a champion without a record.

    Args:
        root: the project.
        pipeline: the registered model.
        version: of the candidate.
        gates: as judged.
        mode: auto: a version that passes is promoted. review: it waits for a person.
        who: the person or program that asked.
        why: in a sentence.
        experiment: of DVC: never promoted.

    Returns:
        The decision; "unchanged" (not recorded) if the version is champion already.

    Raises:
        EnvironmentFault: the store does not answer.
    """
    opened = client(root)
    with reached(root):
        aliases = {alias: int(number) for alias, number in opened.get_registered_model(pipeline).aliases.items()}
        before = aliases.get("champion")
        decision = "unchanged" if before == version else _decide(gates, mode, experiment)
        made = Release(decision, version, before, as_rows(gates), mode, who, why, datetime.now(UTC).isoformat(timespec="microseconds"))
        if decision != "unchanged":
            if not _repeats(made, history(root, pipeline)):
                key = f"{_RECORD}{made.when.replace('+00:00', 'Z')}.{uuid.uuid4().hex[:8]}"
                opened.set_registered_model_tag(pipeline, key, json.dumps(asdict(made), ensure_ascii=False))
            opened.set_model_version_tag(pipeline, str(version), "decision", decision)
        if decision == "promoted":
            if before is not None:
                opened.set_registered_model_alias(pipeline, "previous", str(before))
            opened.set_registered_model_alias(pipeline, "champion", str(version))
        if decision in ("promoted", "unchanged") and aliases.get("challenger") == version:
            opened.delete_registered_model_alias(pipeline, "challenger")
    return made


def history(root: Path, pipeline: str) -> list[Release]:
    """All decisions, oldest first.

    Raises:
        EnvironmentFault: the store does not answer.
    """
    opened = client(root)
    with reached(root):
        tags = opened.get_registered_model(pipeline).tags
    return [Release(**json.loads(tags[key])) for key in sorted(tags) if key.startswith(_RECORD)]


def _decide(gates: Sequence[Gate], mode: str, experiment: bool) -> Decision:
    if experiment:
        return "experiment"
    if not all_passed(gates):
        return "refused"
    return "promoted" if mode == "auto" else "waiting"


def _repeats(made: Release, earlier: Sequence[Release]) -> bool:
    """Whether the stage was only run again: the same verdict on the same version against the same champion."""
    last = next((one for one in reversed(earlier) if one.version == made.version), None)
    return made.decision != "promoted" and last is not None and (last.decision, last.before, last.refused_by) == (made.decision, made.before, made.refused_by)
