"""What the registry holds, as tables that 100 columns can show."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from components.core.bundles import shown_size
from components.core.console import console, styled
from components.core.errors import InputError
from components.core.escaping import brief
from components.orchestration.stage_files import STAGES
from components.registry.release.gate_results import Gate, from_tag
from components.registry.release.release_log import Release, records, standing
from components.registry.release.retrain_log import RetrainRecord, retrains
from components.registry.versions.reader import RegistrySnapshot, Version, argument, code_state

WIDTH = 100
_MALFORMED = (
    ArithmeticError,
    AttributeError,
    LookupError,
    RecursionError,
    TypeError,
    ValueError,
)
COLOURS = {"passed": "green", "refused": "red", "borderline": "yellow", "not applicable": "dim"}


def show_list(shelf: RegistrySnapshot) -> None:
    """The versions, newest first."""
    from components.registry.release.mlflow_requests import asked

    stand = standing(records(shelf))
    table = grid("version", "made (UTC)", "model", "test accuracy", "gates", "state")
    table.columns[1].no_wrap = table.columns[3].no_wrap = True
    for version in reversed(shelf.versions):
        last = stand.last.get(version.number)
        state = (
            "champion"
            if version.number == stand.champion
            else last.decision
            if last
            else "not judged"
        )
        wish = asked(version)
        wait = f"; asked in MLflow to {wish}, wants the tag review.by" if wish else ""
        names = [alias for alias in version.aliases if alias != "champion"]
        cells = [
            str(version.number),
            _time(version.created),
            version.tags.get("title", ""),
            _accuracy(version),
            _summary(gates_of(version)),
            state + wait,
        ]
        table.add_row(
            *cells[:-1],
            cells[-1] + (f" ({', '.join(names)})" if names else ""),
            style="bold" if version.number == stand.champion else None,
        )
    console.print(table)
    waiting = [number for number, last in stand.last.items() if last.decision == "waiting"]
    if waiting:
        console.print(f"next: gristmill review show{argument(shelf.pipeline)} {waiting[-1]}")


def show_version(root: Path, shelf: RegistrySnapshot, version: Version) -> None:
    """The card."""
    from components.registry.versions.model_versions import cases_of

    tags = version.tags
    name = f"{version.pipeline} version {version.number}"
    title = tags.get("title", "")
    console.print(styled((name, "bold"), f": {title}", (_aliases(version), "dim")))
    with reading_tags(version):
        card = _card(version)
    console.print(facts(card))
    gates = gates_of(version)
    if gates:
        console.print(_gates(gates))
    mine = cases_of(root, version, tags.get("test_hash", ""))
    if mine.slices:
        table = grid("slice of the test cases", "cases", "accuracy")
        for name, places in sorted(mine.slices.items()):
            table.add_row(
                name,
                f"{len(places):,}",
                f"{sum(mine.right[place] for place in places) / len(places):.4f}",
            )
        console.print(table)
    own = [each for each in records(shelf) if each.version == version.number]
    if own:
        console.print(_decisions(own))


def show_history(shelf: RegistrySnapshot) -> None:
    """All decisions, and all retrains, oldest first."""
    decided, made = records(shelf), retrains(shelf)
    console.print(_decisions(decided) if decided else "nothing was decided yet")
    if made:
        console.print("retrains, and runs that made a model (UTC)")
    for each in made:
        _show_retrain(each)


def gates_of(version: Version) -> list[Gate]:
    """The gates as judged."""
    return from_tag(version.tags.get("gates", "[]"), f"version {version.number}, tag gates")


@contextmanager
def reading_tags(*versions: Version) -> Iterator[None]:
    """Turn what malformed tags raise into one error. Anybody can edit tags on MLflow's page.

    Raises:
        InputError: a tag is not what registering a version writes.
    """
    try:
        yield
    except _MALFORMED as error:
        numbers = " or ".join(str(version.number) for version in versions)
        raise InputError(
            f"has a tag that registering does not write: {brief(error)}",
            where=f"version {numbers}",
            remedy=f"gristmill run {versions[0].pipeline} writes the tags of its winner again",
        ) from None


def environment(version: Version) -> Mapping[str, str]:
    """Python, platform and libraries."""
    found: dict[str, str] = json.loads(version.tags.get("environment", "{}"))
    return found


def grid(*columns: str) -> Table:
    """An empty table."""
    table = Table(
        box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold", width=min(WIDTH, console.width)
    )
    for column in columns:
        table.add_column(
            column,
            overflow="fold",
            justify="right"
            if column in ("version", "cases", "value", "limit", "accuracy")
            else "left",
        )
    return table


def facts(rows: Sequence[tuple[str, str | Text]]) -> Table:
    """Names and values."""
    table = Table(box=None, show_header=False, pad_edge=False, width=min(WIDTH, console.width))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold", ratio=1)
    for name, value in rows:
        table.add_row(name, value)
    return table


def number(value: float | None) -> str:
    """Four digits."""
    return "" if value is None else f"{value:.4g}"


def when(made: Release) -> str:
    """To the second."""
    return made.when[:19].replace("T", " ")


def _card(version: Version) -> list[tuple[str, str | Text]]:
    tags = version.tags
    row: dict[str, Any] = json.loads(tags.get("leaderboard_row", "{}"))
    signature: dict[str, Any] = json.loads(tags.get("signature", "{}"))
    latency = row.get("latency_ms", {})
    figures = ", ".join(
        f"{name} {value:.4f}" for name, value in row.get("test", {}).items() if value is not None
    )
    shape = "; ".join(
        f"{side}: {', '.join(schema.get('properties', {}))}" for side, schema in signature.items()
    )
    told = [
        (
            "accuracy",
            f"{tags.get('accuracy', '?')} on {tags.get('test_cases', '?')} test cases, interval {tags.get('accuracy_interval', '?')}",
        ),
        ("test", figures),
        (
            "cost",
            f"{shown_size(int(tags.get('bundle_bytes', 0)))}, p50 {number(latency.get('p50'))} ms, p95 {number(latency.get('p95'))} ms, {row.get('throughput_per_s', 0):,.0f} items/s",
        ),
        ("classes", ", ".join(json.loads(tags.get("classes", "[]")))),
        ("data", tags.get("data_hash", "")),
        ("params", tags.get("pipeline_params_hash", tags.get("params_hash", ""))),
        ("DVC lock", tags.get("dvc_lock", "")),
        ("git", code_state(tags)),
        ("bundle", tags.get("bundle_sha256", "")),
        (
            "files",
            ", ".join(
                f"{name} {digest[:12]}"
                for name, digest in json.loads(tags.get("bundle_files", "{}")).items()
            ),
        ),
        ("run", version.run_id),
        (
            "environment",
            ", ".join(f"{name} {value}" for name, value in environment(version).items()),
        ),
        ("takes, gives", shape),
        ("for example", tags.get("input_example", "")[:300]),
    ]
    return [(name, value) for name, value in told if value]


def _gates(gates: Sequence[Gate]) -> Table:
    table = grid("gate", "verdict", "value", "interval", "limit", "")
    table.columns[0].no_wrap = table.columns[1].no_wrap = table.columns[3].no_wrap = True
    table.columns[5].ratio = 1
    for gate in gates:
        interval = (
            f"{number(gate.interval[0])} to {number(gate.interval[1])}" if gate.interval else ""
        )
        table.add_row(
            gate.name,
            styled((gate.verdict, COLOURS[gate.verdict])),
            number(gate.value),
            interval,
            number(gate.limit),
            gate.detail,
        )
    return table


def _decisions(decided: Sequence[Release]) -> Table:
    table = grid("when (UTC)", "version", "decision", "champion", "who", "why")
    table.columns[0].no_wrap = table.columns[2].no_wrap = table.columns[3].no_wrap = True
    table.columns[5].ratio = 1
    for each in decided:
        move = (
            f"{each.before or '–'} → {each.after or '–'}"
            if each.before != each.after
            else f"stays {each.before}"
            if each.before
            else "–"
        )
        more = f" [overrides: {', '.join(each.overrides)}]" if each.overrides else ""
        table.add_row(
            when(each),
            str(each.version),
            each.decision,
            move,
            each.who,
            each.why + more,
        )
    return table


def _show_retrain(made: RetrainRecord) -> None:
    """A line, and below it what it was made with, where the time went, and why it ended so."""
    champion = (
        f"champion {made.before or '–'} → {made.after}"
        if made.before != made.after
        else f"champion stays {made.before}"
        if made.before
        else "no champion"
    )
    head = f"{made.began[:19].replace('T', ' ')}  {made.trigger}: {made.outcome}" + (
        f", version {made.version}" if made.version else ""
    )
    console.print(
        f"{head}; {champion}; {sum(made.seconds.values()):.0f} s",
        style="bold" if made.before != made.after else None,
        soft_wrap=True,
    )
    stages = sorted(
        made.seconds.items(),
        key=lambda entry: list(STAGES).index(entry[0]) if entry[0] in STAGES else len(STAGES),
    )
    inputs = (
        f"code {made.commit[:8] or '?'}, params {made.params[:8]}, source {made.source[:8] or '?'} ({made.rows:,} rows{f', up to {made.cursor}' if made.cursor else ''})"
        + (f", data {made.data[:8]}" if made.data else "")
    )
    for told in (
        made.detail,
        inputs,
        ", ".join(f"{stage} {seconds:.0f} s" for stage, seconds in stages),
    ):
        if told:
            console.print(f"    {told}", style="dim", soft_wrap=True)


def _summary(gates: Sequence[Gate]) -> str:
    bad = [
        f"{verdict}: {', '.join(names)}"
        for verdict in ("refused", "borderline")
        if (names := [gate.name for gate in gates if gate.verdict == verdict])
    ]
    return "; ".join(bad) or ("passed" if gates else "not judged")


def _accuracy(version: Version) -> str:
    low, _, high = version.tags.get("accuracy_interval", "").partition(" to ")
    return (
        f"{version.tags.get('accuracy', '?')} ({low}–{high})"
        if high
        else version.tags.get("accuracy", "?")
    )


def _aliases(version: Version) -> str:
    return f" ({', '.join(version.aliases)})" if version.aliases else ""


def _time(milliseconds: int) -> str:
    return datetime.fromtimestamp(milliseconds / 1000, UTC).strftime("%Y-%m-%d %H:%M")
