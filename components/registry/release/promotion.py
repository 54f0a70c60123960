"""Promotion: the only code that changes the champion. Decisions are recorded before any change."""

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
    GateRules,
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
# characters
_LONGEST = {"who": 100, "why": 1000}


def decide(
    root: Path, pipeline: str, choose: Callable[[RegistrySnapshot, ReleaseState], Release | None]
) -> Release | None:
    """Read the registry, choose, record the decision, and change the aliases.

    If somebody else has recorded a decision meanwhile, the registry is read again. A kill between
    record and change leaves a record whose change the next call of this module makes. There is
    never a champion without a record.

    Args:
        root: the project.
        pipeline: the registered model.
        choose: returns the decision; None if there is nothing to record. May refuse with a
            `GristmillError`.

    Raises:
        EnvironmentFault: the store does not answer.
    """
    opened = client(root)
    with reached(root):
        run = open_log(opened, root, pipeline)
        while True:
            snapshot = read_snapshot(root, pipeline)
            assert snapshot is not None, "open_log has made it"
            # an interrupted change is made first: a decision that is refused makes none
            if not aliases_are_synced(snapshot):
                sync_aliases(opened, root, pipeline)
            release = choose(snapshot, standing(records(snapshot)))
            if release is None or append(opened, root, run, snapshot, release):
                sync_aliases(opened, root, pipeline)
                return release


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
    rules: GateRules | None = None,
) -> Release:
    """Decide whether a version becomes champion, as a program may.

    Args:
        root: the project.
        pipeline: the registered model.
        version: of the candidate.
        gates: of the candidate.
        mode: auto: a version that passes is promoted. review: it waits for a person.
        who: the program that asked.
        why: in a sentence.
        experiment: of DVC: never promoted.
        rules: to compare again if the champion has changed since the gates were applied; None:
            they are used as they are.

    Returns:
        The decision; "unchanged" (not recorded) if the version is champion already.

    Raises:
        GateError: the bundle is not what was registered.
        EnvironmentFault: the store does not answer.
    """
    decided: list[Release] = []

    def choose(snapshot: RegistrySnapshot, state: ReleaseState) -> Release | None:
        candidate = snapshot.version(version)
        current = gates
        if rules:
            current = _current(root, snapshot, state, candidate, gates, rules)
        decision, reason = _verdict(current, mode, experiment, state, version)
        full_why = f"{why} ({reason})" if reason else why
        record = _record(decision, candidate, state, current, mode, who, full_why)
        decided[:] = [record]
        if decision == "promoted":
            verify(root, candidate)
        if decision == "unchanged" or _repeats(record, state):
            return None
        return record

    decide(root, pipeline, choose)
    return decided[0]


def approve(
    root: Path,
    pipeline: str,
    version: int,
    rules: GateRules,
    *,
    who: str,
    why: str,
    overrides: Sequence[str] = (),
) -> Release:
    """Release a version because a person approves it.

    Gates that refuse still refuse. The person decides what is borderline.

    Args:
        root: the project.
        pipeline: the registered model.
        version: its number.
        rules: to compare again, if the champion is not the one that the gates compared with.
        who: the person.
        why: in a sentence.
        overrides: gates that the person answers for, of `OVERRIDABLE`; "rejected" takes back an
            earlier rejection.

    Raises:
        GateError: a gate refuses, it was rejected before, its gates were not applied, or its
            bundle is not what was registered.
        InputError: no such version, it is champion already, or a name that cannot be overridden.
        EnvironmentFault: the store does not answer.
    """
    _check_words(who, why)
    _check_overrides(overrides)

    def choose(snapshot: RegistrySnapshot, state: ReleaseState) -> Release:
        candidate = snapshot.version(version)
        _check_approvable(candidate, state, overrides)
        gates = _current(root, snapshot, state, candidate, _gates_of(candidate), rules)
        refused = [
            gate for gate in gates if gate.verdict == "refused" and gate.name not in overrides
        ]
        _refuse(candidate, refused)
        verify(root, candidate)
        failed = {gate.name for gate in gates if gate.passed is False}
        needed = [name for name in overrides if name == "rejected" or name in failed]
        record = _record("promoted", candidate, state, gates, "review", who, why)
        return replace(record, overrides=needed)

    return _recorded(decide(root, pipeline, choose))


def _check_overrides(overrides: Sequence[str]) -> None:
    possible = (*OVERRIDABLE, "rejected")
    for name in overrides:
        if name not in possible:
            raise InputError(
                f"{name!r} cannot be overridden",
                where="--override",
                remedy=f"what can: {', '.join(possible)}",
            )


def _check_approvable(candidate: Version, state: ReleaseState, overrides: Sequence[str]) -> None:
    """Check that a person may approve a version, before its gates are read.

    Raises:
        InputError: it is champion already.
        GateError: it was rejected before, or its gates were not applied.
    """
    number = candidate.number
    pipeline = candidate.pipeline
    if state.champion == number:
        last = _describe(state.last[number])
        raise InputError(
            f"version {number} of {pipeline!r} is champion already: {last}",
            where="registry",
            remedy=f"gristmill history{argument(pipeline)}",
        )
    if number in state.rejected and "rejected" not in overrides:
        raise GateError(
            f"version {number} of {pipeline!r} was {_describe(state.last[number])}",
            where="registry",
            remedy="to take that back, approve it with --override rejected",
        )
    if "gates" not in candidate.tags:
        raise GateError(
            f"the gates of version {number} were not judged",
            where="registry",
            remedy="run the serve stage of the pipeline that made it: gristmill run",
        )


def reject(
    root: Path,
    pipeline: str,
    version: int,
    *,
    who: str,
    why: str,
) -> Release:
    """Record that a version must not be released; no program releases it from then on.

    Args:
        root: the project.
        pipeline: the registered model.
        version: its number.
        who: the person.
        why: in a sentence.

    Raises:
        InputError: no such version, rejected already, or it is the champion.
        EnvironmentFault: the store does not answer.
    """
    _check_words(who, why)

    def choose(snapshot: RegistrySnapshot, state: ReleaseState) -> Release:
        candidate = snapshot.version(version)
        if state.champion == version:
            raise InputError(
                f"version {version} of {pipeline!r} is the champion",
                where="registry",
                remedy=f"gristmill rollback{argument(pipeline)} takes it down",
            )
        if version in state.rejected:
            raise InputError(
                f"version {version} of {pipeline!r} was {_describe(state.last[version])} already",
                where="registry",
                remedy=f"gristmill review list{argument(pipeline)}",
            )
        return _record("rejected", candidate, state, _gates_of(candidate), "review", who, why)

    return _recorded(decide(root, pipeline, choose))


def rollback(
    root: Path,
    pipeline: str,
    to: int | None = None,
    *,
    who: str,
    why: str,
) -> Release:
    """Serve an earlier champion again.

    The version that it replaces is not released by a program any more.

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

    def choose(snapshot: RegistrySnapshot, state: ReleaseState) -> Release:
        number = to or state.previous
        if number is None:
            there = "nothing was ever released"
            if state.champion:
                there = f"before version {state.champion} there was no champion that still stands"
            raise InputError(
                f"there is nothing to go back to: {there}",
                where=f"pipeline {pipeline}",
                remedy=f"gristmill history{argument(pipeline)}",
            )
        target = snapshot.version(number)
        _check_rollback(target, state)
        verify(root, target)
        return _record("rolled back", target, state, [], "review", who, why)

    return _recorded(decide(root, pipeline, choose))


def _check_rollback(target: Version, state: ReleaseState) -> None:
    """Check that a version was champion once, and is not the champion.

    Raises:
        InputError: it is not one to go back to.
    """
    number = target.number
    pipeline = target.pipeline
    if number == state.champion:
        last = _describe(state.last[number])
        raise InputError(
            f"version {number} of {pipeline!r} is champion already: {last}",
            where="--to",
            remedy=f"gristmill history{argument(pipeline)}",
        )
    if number not in state.released:
        was = "never was champion"
        if number in state.rejected:
            was = f"was {_describe(state.last[number])}"
        command = f"gristmill review approve{argument(pipeline)} {number}"
        raise InputError(
            f"version {number} of {pipeline!r} {was}",
            where="--to",
            remedy=f"{command} releases it through the gates",
        )


def _gates_of(version: Version) -> list[Gate]:
    where = f"version {version.number} of {version.pipeline!r}, tag gates"
    return from_tag(version.tags.get("gates", "[]"), where)


def _current(
    root: Path,
    snapshot: RegistrySnapshot,
    state: ReleaseState,
    candidate: Version,
    gates: Sequence[Gate],
    rules: GateRules,
) -> list[Gate]:
    """Return the gates, with a new comparison if the champion has changed meanwhile.

    It compares the answers that are stored with both versions.
    """
    against = next((gate.against for gate in gates if gate.name == "champion"), None)
    if against == state.champion or state.champion is None:
        return list(gates)
    champion = snapshot.version(state.champion)
    cases = cases_of(root, candidate, candidate.tags.get("test_hash", ""))
    before = f"version {against}" if against else "no champion"
    results = ChampionResults(
        version=champion.number,
        bundle_sha256=champion.tags.get(BUNDLE, ""),
        cases=cases_of(root, champion, cases.test),
        note=f"compared anew: the gates were judged against {before}",
    )
    compared = judge_champion(candidate.tags.get(BUNDLE, ""), cases, results, rules)
    by_name = {gate.name: gate for gate in compared}
    return [by_name.get(gate.name, gate) for gate in gates]


def _verdict(
    gates: Sequence[Gate], mode: str, experiment: bool, state: ReleaseState, version: int
) -> tuple[Decision, str]:
    """Return the decision on a version, and its reason."""
    if state.champion == version:
        return "unchanged", ""
    if experiment:
        return "experiment", ""
    if version in state.rejected:
        return "rejected", f"stays {_describe(state.last[version])}"
    for verdict, decision in (("refused", "refused"), ("borderline", "waiting")):
        if names := [gate.name for gate in gates if gate.verdict == verdict]:
            return decision, f"{verdict}: {', '.join(names)}"  # type: ignore[return-value]
    if version in state.withdrawn:
        return "waiting", "a person rolled back from it"
    if mode == "auto":
        return "promoted", ""
    return "waiting", "registry.mode is review"


def _refuse(version: Version, refused: Sequence[Gate]) -> None:
    """Raise an error that names the gates which refuse a version, if there are any."""
    if not refused:
        return
    reasons = "; ".join(
        f"{gate.name}: {gate.detail} ({_number(gate.value)} against {_number(gate.limit)})"
        for gate in refused
    )
    firm = [gate.name for gate in refused if gate.name not in OVERRIDABLE]
    if firm:
        names = ", ".join(firm)
        way = f"{names} cannot be overridden: mend the model, or the limit in params.yaml"
    else:
        flags = " ".join(f"--override {gate.name}" for gate in refused)
        way = f"if you know better: {flags}"
    more = f"gristmill review show{argument(version.pipeline)} {version.number} tells more"
    raise GateError(
        f"version {version.number} of {version.pipeline!r} is refused by {reasons}",
        where="gates",
        remedy=f"{more}; {way}",
    )


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.4g}"


def _record(
    decision: Decision,
    version: Version,
    state: ReleaseState,
    gates: Sequence[Gate],
    mode: str,
    who: str,
    why: str,
) -> Release:
    return Release(
        decision=decision,
        version=version.number,
        before=state.champion,
        gates=as_rows(gates),
        mode=mode,
        who=who,
        why=why,
        when=datetime.now(UTC).isoformat(timespec="microseconds"),
    )


def _repeats(release: Release, state: ReleaseState) -> bool:
    """Return whether the stage was only run again.

    Then the verdict on the same version against the same champion is the same.
    """
    # a person's decision, which is in the log
    if release.decision == "rejected":
        return True
    last = state.last.get(release.version)
    if release.decision == "promoted" or last is None:
        return False
    before = (last.decision, last.before, last.refused_by)
    return before == (release.decision, release.before, release.refused_by)


def _describe(release: Release) -> str:
    when = release.when[:16].replace("T", " ")
    return f"{release.decision} by {release.who} at {when} UTC ({release.why})"


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


def _recorded(release: Release | None) -> Release:
    assert release is not None, "a person's decision is always recorded"
    return release
