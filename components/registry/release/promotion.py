"""Release: the only thing that moves the champion. Every decision is recorded before anything moves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from components.core.errors import GateError, InputError
from components.registry.release.aliases import aliases_are_synced, sync_aliases
from components.registry.release.gate_results import from_tag
from components.registry.release.gates import (
    OVERRIDABLE,
    ChampionResults,
    Gate,
    GateParams,
    as_rows,
    judge_champion,
)
from components.registry.release.release_log import (
    Decision,
    Release,
    ReleaseState,
    append,
    history,
    open_log,
    records,
    standing,
)
from components.registry.store.tracking_store import client, reached
from components.registry.versions.model_versions import BUNDLE, cases_of, verify
from components.registry.versions.reader import RegistrySnapshot, Version, argument, read_snapshot

__all__ = ["Release", "approve", "decide", "history", "reject", "release", "rollback"]
_LONGEST = {"who": 100, "why": 1000}  # characters


def decide(
    root: Path, pipeline: str, choose: Callable[[RegistrySnapshot, ReleaseState], Release | None]
) -> Release | None:
    """Look, choose, record, move; if somebody else has recorded a decision meanwhile, look and choose again.

    A kill between record and move leaves a record whose move the next call of anything here makes; never a champion without a record.

    Args:
        root: the project.
        pipeline: the registered model.
        choose: the decision, from what stands; None if there is nothing to record. May refuse with a `GristmillError`.

    Raises:
        EnvironmentFault: the store does not answer.
    """
    opened = client(root)
    with reached(root):
        run = open_log(opened, root, pipeline)
        while True:
            shelf = read_snapshot(root, pipeline)
            assert shelf is not None, "open_log has made it"
            if not aliases_are_synced(
                shelf
            ):  # a move that was cut off: made first, for a decision that is refused makes none
                sync_aliases(opened, root, pipeline)
            made = choose(shelf, standing(records(shelf)))
            if made is None or append(opened, root, run, shelf, made):
                sync_aliases(opened, root, pipeline)
                return made


def release(
    root: Path,
    pipeline: str,
    version: int,
    gates: Sequence[Gate],
    *,
    mode: Literal["auto", "review"],
    who: str,
    why: str,
    experiment: bool = False,
    limits: GateParams | None = None,
) -> Release:
    """Decide whether a version becomes champion, as a program may.

    Args:
        root: the project.
        pipeline: the registered model.
        version: of the candidate.
        gates: as judged.
        mode: auto: a version that passes is promoted. review: it waits for a person.
        who: the program that asked.
        why: in a sentence.
        experiment: of DVC: never promoted.
        limits: with which to compare anew if the champion has changed since the gates were judged; None: they are taken as they are.

    Returns:
        The decision; "unchanged" (not recorded) if the version is champion already.

    Raises:
        GateError: the bundle is not what was registered.
        EnvironmentFault: the store does not answer.
    """
    made: list[Release] = []

    def choose(shelf: RegistrySnapshot, stand: ReleaseState) -> Release | None:
        found = shelf.version(version)
        judged = _current(root, shelf, stand, found, gates, limits) if limits else gates
        decision, reason = _verdict(judged, mode, experiment, stand, version)
        made[:] = [
            _record(
                decision, found, stand, judged, mode, who, f"{why} ({reason})" if reason else why
            )
        ]
        if decision == "promoted":
            verify(root, found)
        return None if decision == "unchanged" or _repeats(made[0], stand) else made[0]

    decide(root, pipeline, choose)
    return made[0]


def approve(
    root: Path,
    pipeline: str,
    version: int,
    limits: GateParams,
    *,
    who: str,
    why: str,
    overrides: Sequence[str] = (),
) -> Release:
    """Release a version because a person says so. Gates that refuse still refuse; what is borderline the person decides.

    Args:
        root: the project.
        pipeline: the registered model.
        version: its number.
        limits: to compare with the champion anew, if it is another one than the gates were judged against.
        who: the person.
        why: in a sentence.
        overrides: gates that the person answers for, of `OVERRIDABLE`; "rejected" takes back an earlier rejection.

    Raises:
        GateError: a gate refuses, it was rejected before, nobody has judged it, or its bundle is not what was registered.
        InputError: no such version, it is champion already, or a name that cannot be overridden.
        EnvironmentFault: the store does not answer.
    """
    _check_words(who, why)
    for name in overrides:
        if name not in (*OVERRIDABLE, "rejected"):
            raise InputError(
                f"{name!r} cannot be overridden",
                where="--override",
                remedy=f"what can: {', '.join((*OVERRIDABLE, 'rejected'))}",
            )

    def choose(shelf: RegistrySnapshot, stand: ReleaseState) -> Release:
        found = shelf.version(version)
        if stand.champion == version:
            raise InputError(
                f"version {version} of {pipeline!r} is champion already: {_told(stand.last[version])}",
                where="registry",
                remedy=f"gristmill history{argument(pipeline)}",
            )
        if version in stand.rejected and "rejected" not in overrides:
            raise GateError(
                f"version {version} of {pipeline!r} was {_told(stand.last[version])}",
                where="registry",
                remedy="to take that back, approve it with --override rejected",
            )
        if "gates" not in found.tags:
            raise GateError(
                f"the gates of version {version} were not judged",
                where="registry",
                remedy="run the serve stage of the pipeline that made it: gristmill run",
            )
        gates = _current(root, shelf, stand, found, _gates_of(found), limits)
        _refuse(
            found,
            [gate for gate in gates if gate.verdict == "refused" and gate.name not in overrides],
        )
        verify(root, found)
        needed = [
            name
            for name in overrides
            if name == "rejected"
            or any(gate.name == name and gate.passed is False for gate in gates)
        ]
        return replace(
            _record("promoted", found, stand, gates, "review", who, why), overrides=needed
        )

    return _made(decide(root, pipeline, choose))


def reject(root: Path, pipeline: str, version: int, *, who: str, why: str) -> Release:
    """Say that a version must not be released; no program releases it from then on.

    Raises:
        InputError: no such version, rejected already, or it is the champion.
        EnvironmentFault: the store does not answer.
    """
    _check_words(who, why)

    def choose(shelf: RegistrySnapshot, stand: ReleaseState) -> Release:
        found = shelf.version(version)
        if stand.champion == version:
            raise InputError(
                f"version {version} of {pipeline!r} is the champion",
                where="registry",
                remedy=f"gristmill rollback{argument(pipeline)} takes it down",
            )
        if version in stand.rejected:
            raise InputError(
                f"version {version} of {pipeline!r} was {_told(stand.last[version])} already",
                where="registry",
                remedy=f"gristmill review list{argument(pipeline)}",
            )
        return _record(
            "rejected",
            found,
            stand,
            _gates_of(found),
            "review",
            who,
            why,
        )

    return _made(decide(root, pipeline, choose))


def rollback(root: Path, pipeline: str, to: int | None = None, *, who: str, why: str) -> Release:
    """Serve an earlier champion again; the one that it replaces is not released by a program any more.

    Args:
        root: the project.
        pipeline: the registered model.
        to: a version that was champion once; None: the one before the present champion.
        who: the person.
        why: in a sentence.

    Raises:
        InputError: there is nothing to go back to, or `to` never was champion.
        GateError: the bundle of that version is not what was registered.
        EnvironmentFault: the store does not answer.
    """
    _check_words(who, why)

    def choose(shelf: RegistrySnapshot, stand: ReleaseState) -> Release:
        number = to or stand.previous
        if number is None:
            there = (
                f"before version {stand.champion} there was no champion that still stands"
                if stand.champion
                else "nothing was ever released"
            )
            raise InputError(
                f"there is nothing to go back to: {there}",
                where=f"pipeline {pipeline}",
                remedy=f"gristmill history{argument(pipeline)}",
            )
        found = shelf.version(number)
        if number == stand.champion:
            raise InputError(
                f"version {number} of {pipeline!r} is champion already: {_told(stand.last[number])}",
                where="--to",
                remedy=f"gristmill history{argument(pipeline)}",
            )
        if number not in stand.released:
            was = (
                f"was {_told(stand.last[number])}"
                if number in stand.rejected
                else "never was champion"
            )
            raise InputError(
                f"version {number} of {pipeline!r} {was}",
                where="--to",
                remedy=f"gristmill review approve{argument(pipeline)} {number} releases it through the gates",
            )
        verify(root, found)
        return _record("rolled back", found, stand, [], "review", who, why)

    return _made(decide(root, pipeline, choose))


def _gates_of(version: Version) -> list[Gate]:
    where = f"version {version.number} of {version.pipeline!r}, tag gates"
    return from_tag(version.tags.get("gates", "[]"), where)


def _current(
    root: Path,
    shelf: RegistrySnapshot,
    stand: ReleaseState,
    found: Version,
    gates: Sequence[Gate],
    limits: GateParams,
) -> list[Gate]:
    """The gates, with those against the champion judged anew if it is another one by now: from the answers that are kept with both versions."""
    against = next((gate.against for gate in gates if gate.name == "champion"), None)
    if against == stand.champion or stand.champion is None:
        return list(gates)
    leading = shelf.version(stand.champion)
    mine = cases_of(root, found, found.tags.get("test_hash", ""))
    note = f"compared anew: the gates were judged against {f'version {against}' if against else 'no champion'}"
    rival = ChampionResults(
        leading.number, leading.tags.get(BUNDLE, ""), cases_of(root, leading, mine.test), note
    )
    anew = {
        gate.name: gate for gate in judge_champion(found.tags.get(BUNDLE, ""), mine, rival, limits)
    }
    return [anew.get(gate.name, gate) for gate in gates]


def _verdict(
    gates: Sequence[Gate], mode: str, experiment: bool, stand: ReleaseState, version: int
) -> tuple[Decision, str]:
    if stand.champion == version:
        return "unchanged", ""
    if experiment:
        return "experiment", ""
    if version in stand.rejected:
        return "rejected", f"stays {_told(stand.last[version])}"
    for verdict, decision in (("refused", "refused"), ("borderline", "waiting")):
        if names := [gate.name for gate in gates if gate.verdict == verdict]:
            return decision, f"{verdict}: {', '.join(names)}"  # type: ignore[return-value]
    if version in stand.withdrawn:
        return "waiting", "a person rolled back from it"
    return ("promoted", "") if mode == "auto" else ("waiting", "registry.mode is review")


def _refuse(version: Version, refusing: Sequence[Gate]) -> None:
    if not refusing:
        return
    told = "; ".join(
        f"{gate.name}: {gate.detail} ({_number(gate.value)} against {_number(gate.limit)})"
        for gate in refusing
    )
    firm = [gate.name for gate in refusing if gate.name not in OVERRIDABLE]
    way = (
        f"{', '.join(firm)} cannot be overridden: mend the model, or the limit in params.yaml"
        if firm
        else f"if you know better: {' '.join(f'--override {gate.name}' for gate in refusing)}"
    )
    more = f"gristmill review show{argument(version.pipeline)} {version.number} tells more"
    raise GateError(
        f"version {version.number} of {version.pipeline!r} is refused by {told}",
        where="gates",
        remedy=f"{more}; {way}",
    )


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.4g}"


def _record(
    decision: Decision,
    found: Version,
    stand: ReleaseState,
    gates: Sequence[Gate],
    mode: str,
    who: str,
    why: str,
) -> Release:
    return Release(
        decision,
        found.number,
        stand.champion,
        as_rows(gates),
        mode,
        who,
        why,
        datetime.now(UTC).isoformat(timespec="microseconds"),
    )


def _repeats(made: Release, stand: ReleaseState) -> bool:
    """Whether the stage was only run again: the same verdict on the same version against the same champion."""
    last = stand.last.get(made.version)
    if made.decision == "rejected":
        return True  # a person's word, which stands in the log
    return (
        made.decision != "promoted"
        and last is not None
        and (last.decision, last.before, last.refused_by)
        == (made.decision, made.before, made.refused_by)
    )


def _told(made: Release) -> str:
    return f"{made.decision} by {made.who} at {made.when[:16].replace('T', ' ')} UTC ({made.why})"


def _check_words(who: str, why: str) -> None:
    for name, flag, text in (("who", "--by", who), ("why", "--note", why)):
        if not text.strip():
            raise InputError(
                "must say something: it is kept for ever",
                where=flag,
                remedy='--by WHO --note "WHY"',
            )
        if len(text) > _LONGEST[name]:
            raise InputError(
                f"has {len(text)} characters, more than {_LONGEST[name]}",
                where=flag,
                remedy="say it in fewer words",
            )


def _made(record: Release | None) -> Release:
    assert record is not None, "a person's decision is always recorded"
    return record
