"""A version beside the champion: what is better, what is worse, what it was made from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.text import Text

from components.cli.review_tables import (
    COLOURS,
    environment,
    facts,
    gates_of,
    grid,
    number,
    reading_tags,
)
from components.core.console import console, styled
from components.core.errors import InputError
from components.registry.release.gates import ChampionResults, Gate, GateParams, judge_champion
from components.registry.versions.model_versions import BUNDLE, cases_of
from components.registry.versions.reader import RegistrySnapshot, Version, argument, code_state
from components.registry.versions.test_cases import Cases


def show_diff(root: Path, shelf: RegistrySnapshot, version: Version, limits: GateParams) -> None:
    """Print it.

    Raises:
        InputError: there is no champion to compare with, or it is this version.
    """
    leading = shelf.aliases.get("champion")
    if leading is None or leading == version.number:
        what = (
            "there is no champion yet"
            if leading is None
            else f"version {leading} is the champion itself"
        )
        raise InputError(
            f"{what}, so there is nothing to compare with",
            where="registry",
            remedy=f"gristmill review show{argument(version.pipeline)} {version.number}",
        )
    other = shelf.version(leading)
    name = f"{shelf.pipeline} version {version.number}"
    console.print(styled((name, "bold"), f" beside the champion, version {leading}"))
    console.print(
        facts([(f"version {each.number}", each.tags.get("title", "")) for each in (version, other)])
    )
    mine = cases_of(root, version, version.tags.get("test_hash", ""))
    theirs = cases_of(root, other, mine.test)
    paired = judge_champion(
        version.tags.get(BUNDLE, ""),
        mine,
        ChampionResults(leading, other.tags.get(BUNDLE, ""), theirs),
        limits,
    )
    console.print(
        facts(
            [
                (
                    gate.name,
                    styled((gate.verdict, COLOURS[gate.verdict]), f" {gate.detail}{_bounds(gate)}"),
                )
                for gate in paired
            ]
        )
    )
    with reading_tags(other, version):
        _figures(version, other)
    _slices(mine, theirs, leading, version.number)
    _gates(version, other)
    with reading_tags(other, version):
        _origins(version, other)


def _bounds(gate: Gate) -> str:
    return (
        f"; gain {number(gate.value)}, {number(gate.interval[0])} to {number(gate.interval[1])}, limit {number(gate.limit)}"
        if gate.interval
        else ""
    )


def _figures(version: Version, other: Version) -> None:
    rows: list[dict[str, Any]] = [
        json.loads(each.tags.get("leaderboard_row", "{}")) for each in (other, version)
    ]
    table = grid("figure", f"champion {other.number}", f"version {version.number}", "difference")
    theirs, mine = (_flat_figures(row) for row in rows)
    for name in [*theirs, *(name for name in mine if name not in theirs)]:
        (first, low, high), (second, lower, higher) = (
            theirs.get(name, (None, None, None)),
            mine.get(name, (None, None, None)),
        )
        change = f"{second - first:+.4f}" if first is not None and second is not None else ""
        table.add_row(name, _spread(first, low, high), _spread(second, lower, higher), change)
    console.print(table)


def _flat_figures(
    row: Mapping[str, Any],
) -> dict[str, tuple[float | None, float | None, float | None]]:
    intervals = row.get("test_interval", {})
    found: dict[str, tuple[float | None, float | None, float | None]] = {
        f"test {name}": (value, *(intervals.get(name) or (None, None)))
        for name, value in row.get("test", {}).items()
    }
    latency = row.get("latency_ms", {})
    if latency:
        found["p95, ms"] = (latency["p95"], *(latency.get("p95_interval") or (None, None)))
    if "size_bytes" in row:
        found["size, MB"] = (row["size_bytes"] / 1e6, None, None)
    return found


def _spread(value: float | None, low: float | None, high: float | None) -> str:
    return number(value) + (f" ({number(low)} to {number(high)})" if low is not None else "")


def _slices(mine: Cases, theirs: Cases, leading: int, own: int) -> None:
    if not mine.pairs(theirs):
        note = "the two were not measured on the same test cases: the figures above are of different ones"
        console.print(note, style="yellow")
        return
    table = grid(
        "slice of the test cases", "cases", f"champion {leading}", f"version {own}", "won, lost"
    )
    for name, places in sorted((mine.slices or {}).items()):
        pairs = [(mine.right[place], theirs.known[mine.ids[place]]) for place in places]
        won, lost = sum(a and not b for a, b in pairs), sum(b and not a for a, b in pairs)
        table.add_row(
            name,
            f"{len(pairs):,}",
            f"{sum(b for _, b in pairs) / len(pairs):.4f}",
            f"{sum(a for a, _ in pairs) / len(pairs):.4f}",
            f"{won}, {lost}",
        )
    console.print(table)


def _gates(version: Version, other: Version) -> None:
    theirs, mine = ({gate.name: gate for gate in gates_of(each)} for each in (other, version))
    table = grid("gate", f"champion {other.number}", f"version {version.number}")
    for name in [*mine, *(name for name in theirs if name not in mine)]:
        table.add_row(name, _verdict(theirs.get(name)), _verdict(mine.get(name)))
    console.print(table)


def _verdict(gate: Gate | None) -> Text:
    if gate is None:
        return styled(("not judged", "dim"))
    return styled(
        (gate.verdict, COLOURS[gate.verdict]),
        "" if gate.value is None else f" {number(gate.value)} of {number(gate.limit)}",
    )


def _origins(version: Version, other: Version) -> None:
    table = grid("made from", f"champion {other.number}", f"version {version.number}")
    pairs = [
        (name, other.tags.get(tag, ""), version.tags.get(tag, ""))
        for name, tag in (
            ("data", "data_hash"),
            ("params", "pipeline_params_hash"),
            ("DVC lock", "dvc_lock"),
            ("bundle", BUNDLE),
        )
    ]
    table.add_row("git", code_state(other.tags, 12), code_state(version.tags, 12))
    for name, first, second in pairs:
        table.add_row(name, first[:12], "the same" if first == second else second[:12])
    theirs, mine = ({**_params(each), **environment(each)} for each in (other, version))
    for name in sorted({*theirs, *mine}):
        if theirs.get(name) != mine.get(name):
            table.add_row(name, str(theirs.get(name, "–")), str(mine.get(name, "–")))
    console.print(table)


def _params(version: Version) -> Mapping[str, Any]:
    found: dict[str, Any] = json.loads(version.tags.get("params", "{}"))
    return found
