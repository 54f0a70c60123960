"""A version beside the champion: what is better, what is worse, what differs in its inputs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.text import Text

from components.cli.review_tables import (
    COLORS,
    details_table,
    environment,
    format_number,
    gates_of,
    new_table,
    reading_tags,
)
from components.core.console import console, styled
from components.core.errors import InputError
from components.core.significant_digits import significant_digits
from components.registry.release.gates import ChampionResults, Gate, GateRules, judge_champion
from components.registry.versions.model_versions import BUNDLE, cases_of
from components.registry.versions.reader import RegistrySnapshot, Version, argument, code_state
from components.registry.versions.test_cases import Cases

# A value and the bounds of its interval. None: not measured.
_Metric = tuple[float | None, float | None, float | None]
_ORIGIN_TAGS = (
    ("data", "data_hash"),
    ("params", "pipeline_params_hash"),
    ("DVC lock", "dvc_lock"),
    ("bundle", BUNDLE),
)


def show_diff(root: Path, snapshot: RegistrySnapshot, version: Version, rules: GateRules) -> None:
    """Print a version beside the champion.

    Args:
        root: of the project.
        snapshot: the registry's records of the pipeline.
        version: the one to compare.
        rules: of the gates.

    Raises:
        InputError: there is no champion to compare with, or it is this version.
    """
    champion_number = _champion_number(snapshot, version)
    champion = snapshot.version(champion_number)
    name = f"{snapshot.pipeline} version {version.number}"
    console.print(styled((name, "bold"), f" beside the champion, version {champion_number}"))
    titles = [
        (f"version {entry.number}", entry.tags.get("title", "")) for entry in (version, champion)
    ]
    console.print(details_table(titles))
    cases = cases_of(root, version, version.tags.get("test_hash", ""))
    champion_cases = cases_of(root, champion, cases.test)
    paired = judge_champion(
        version.tags.get(BUNDLE, ""),
        cases,
        ChampionResults(champion_number, champion.tags.get(BUNDLE, ""), champion_cases),
        rules,
    )
    console.print(details_table([(gate.name, _paired_verdict(gate)) for gate in paired]))
    with reading_tags(champion, version):
        _show_metrics(version, champion)
    _show_slices(cases, champion_cases, champion_number, version.number, rules)
    _show_gates(version, champion)
    with reading_tags(champion, version):
        _show_origins(version, champion)


def _champion_number(snapshot: RegistrySnapshot, version: Version) -> int:
    """Return the number of the champion, which must be another version."""
    number = snapshot.aliases.get("champion")
    if number is not None and number != version.number:
        return number
    reason = f"version {number} is the champion itself"
    if number is None:
        reason = "there is no champion to compare with"
    raise InputError(
        f"{reason}, so there is nothing to compare with",
        where="registry",
        remedy=f"gristmill review show{argument(version.pipeline)} {version.number}",
    )


def _paired_verdict(gate: Gate) -> Text:
    return styled((gate.verdict, COLORS[gate.verdict]), f" {gate.detail}{_bounds(gate)}")


def _bounds(gate: Gate) -> str:
    if not gate.interval:
        return ""
    low = format_number(gate.interval[0])
    high = format_number(gate.interval[1])
    return f"; gain {format_number(gate.value)}, {low} to {high}, limit {format_number(gate.limit)}"


def _show_metrics(version: Version, champion: Version) -> None:
    table = new_table(
        "figure",
        f"champion {champion.number}",
        f"version {version.number}",
        "difference",
    )
    champion_metrics = _metrics(champion)
    metrics = _metrics(version)
    names = dict.fromkeys([*champion_metrics, *metrics])
    for name in names:
        champion_metric = champion_metrics.get(name, (None, None, None))
        metric = metrics.get(name, (None, None, None))
        change = ""
        if champion_metric[0] is not None and metric[0] is not None:
            change = _signed(metric[0] - champion_metric[0])
        table.add_row(name, _with_interval(*champion_metric), _with_interval(*metric), change)
    console.print(table)


def _signed(change: float) -> str:
    """Return a difference with its sign and three digits."""
    sign = "+" if change >= 0 else ""
    return f"{sign}{significant_digits(change, 3)}"


def _metrics(version: Version) -> dict[str, _Metric]:
    """Return the metrics of a version's row of the leaderboard, with the bounds of each."""
    row: dict[str, Any] = json.loads(version.tags.get("leaderboard_row", "{}"))
    intervals = row.get("test_interval", {})
    metrics: dict[str, _Metric] = {}
    for name, value in row.get("test", {}).items():
        low, high = intervals.get(name) or (None, None)
        metrics[f"test {name}"] = (value, low, high)
    latency = row.get("latency_ms", {})
    if latency:
        low, high = latency.get("p95_interval") or (None, None)
        metrics["p95, ms"] = (latency["p95"], low, high)
    if "size_bytes" in row:
        metrics["size, MB"] = (row["size_bytes"] / 1e6, None, None)
    return metrics


def _with_interval(value: float | None, low: float | None, high: float | None) -> str:
    text = format_number(value)
    if low is not None:
        text += f" ({format_number(low)} to {format_number(high)})"
    return text


def _show_slices(
    cases: Cases, champion_cases: Cases, champion: int, version: int, rules: GateRules
) -> None:
    """Print how good the answers of both versions are, for each slice of the test cases."""
    if not rules.can_compare(cases, champion_cases):
        warning = (
            "the two were not measured on the same test cases: "
            "the figures above are of different ones"
        )
        console.print(warning, style="yellow")
        return
    table = new_table(
        "slice of the test cases",
        "cases",
        f"champion {champion}",
        f"version {version}",
        "difference",
    )
    for name, positions in sorted((cases.slices or {}).items()):
        mine = cases.select(positions)
        theirs = champion_cases.of_ids(cases.ids[position] for position in positions)
        compared = rules.task.compare(mine, theirs, rules.params.alpha)
        table.add_row(
            name,
            f"{len(positions):,}",
            significant_digits(rules.task.level(theirs)),
            significant_digits(rules.task.level(mine)),
            compared.counted,
        )
    console.print(table)


def _show_gates(version: Version, champion: Version) -> None:
    champion_gates = {gate.name: gate for gate in gates_of(champion)}
    gates = {gate.name: gate for gate in gates_of(version)}
    table = new_table("gate", f"champion {champion.number}", f"version {version.number}")
    for name in dict.fromkeys([*gates, *champion_gates]):
        table.add_row(name, _verdict(champion_gates.get(name)), _verdict(gates.get(name)))
    console.print(table)


def _verdict(gate: Gate | None) -> Text:
    if gate is None:
        return styled(("not judged", "dim"))
    measured = ""
    if gate.value is not None:
        measured = f" {format_number(gate.value)} of {format_number(gate.limit)}"
    return styled((gate.verdict, COLORS[gate.verdict]), measured)


def _show_origins(version: Version, champion: Version) -> None:
    """Print the code, the data, the params and the libraries in which both versions differ."""
    table = new_table("made from", f"champion {champion.number}", f"version {version.number}")
    table.add_row("git", code_state(champion.tags, 12), code_state(version.tags, 12))
    for name, tag in _ORIGIN_TAGS:
        champion_value = champion.tags.get(tag, "")
        value = version.tags.get(tag, "")
        shown = "the same" if value == champion_value else value[:12]
        table.add_row(name, champion_value[:12], shown)
    champion_settings = _settings(champion)
    settings = _settings(version)
    for name in sorted({*champion_settings, *settings}):
        if champion_settings.get(name) != settings.get(name):
            champion_value = str(champion_settings.get(name, "–"))
            table.add_row(name, champion_value, str(settings.get(name, "–")))
    console.print(table)


def _settings(version: Version) -> Mapping[str, Any]:
    """Return the params of a version and the libraries that trained it."""
    params: dict[str, Any] = json.loads(version.tags.get("params", "{}"))
    return {**params, **environment(version)}
