"""Tables of what the registry holds, at most 100 columns wide."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import JustifyMethod
from rich.table import Table
from rich.text import Text

from components.core.bundles import shown_size
from components.core.console import console, styled
from components.core.errors import InputError
from components.core.escaping import brief
from components.core.significant_digits import significant_digits
from components.orchestration.stage_files import STAGES
from components.registry.release.gate_results import Gate, from_tag
from components.registry.release.release_log import Release, records, standing
from components.registry.release.retrain_record import RetrainRecord, retrains
from components.registry.versions.reader import (
    RegistrySnapshot,
    Version,
    argument,
    code_state,
    reported_metric,
)
from components.registry.versions.test_cases import Cases

if TYPE_CHECKING:
    from components.registry.release.gates import GateRules
    from components.tasks.base import ChampionComparison

WIDTH = 100
_MALFORMED = (
    ArithmeticError,
    AttributeError,
    LookupError,
    RecursionError,
    TypeError,
    ValueError,
)
COLORS = {"passed": "green", "refused": "red", "borderline": "yellow", "not applicable": "dim"}
_RIGHT_ALIGNED = ("version", "cases", "value", "limit")


def show_list(snapshot: RegistrySnapshot) -> None:
    """Print a table of the versions, newest first."""
    state = standing(records(snapshot))
    metrics = [reported_metric(version.tags) for version in snapshot.versions]
    names = dict.fromkeys(metric.name for metric in metrics)
    measured = f"test {' or '.join(names)}"
    table = new_table("version", "made (UTC)", "model", measured, "gates", "state")
    _keep_on_one_line(table, 1, 3)
    for version, metric in reversed(list(zip(snapshot.versions, metrics, strict=True))):
        is_champion = version.number == state.champion
        table.add_row(
            str(version.number),
            _format_milliseconds(version.created),
            version.tags.get("title", ""),
            metric.with_interval,
            _gate_summary(gates_of(version)),
            _version_state(version, is_champion, state.last.get(version.number)),
            style="bold" if is_champion else None,
        )
    console.print(table)
    waiting = [number for number, last in state.last.items() if last.decision == "waiting"]
    if waiting:
        console.print(f"next: gristmill review show{argument(snapshot.pipeline)} {waiting[-1]}")


def _version_state(version: Version, is_champion: bool, last: Release | None) -> str:
    """Return the text of the column `state`: the decision, what MLflow asks for, the aliases."""
    from components.registry.release.mlflow_requests import requested_decision

    state = "not judged"
    if is_champion:
        state = "champion"
    elif last:
        state = last.decision
    request = requested_decision(version)
    if request:
        state += f"; asked in MLflow to {request}, wants the tag review.by"
    other_aliases = [alias for alias in version.aliases if alias != "champion"]
    if other_aliases:
        state += f" ({', '.join(other_aliases)})"
    return state


def show_version(
    root: Path, snapshot: RegistrySnapshot, version: Version, rules: GateRules
) -> None:
    """Print the card of a version, its gates, its slices and the decisions on it.

    Args:
        root: of the project.
        snapshot: the registry's records of the pipeline.
        version: one of them.
        rules: of the gates.

    Raises:
        InputError: a tag of the version is malformed.
    """
    from components.registry.versions.model_versions import cases_of

    tags = version.tags
    name = f"{version.pipeline} version {version.number}"
    title = tags.get("title", "")
    console.print(styled((name, "bold"), f": {title}", (_aliases(version), "dim")))
    with reading_tags(version):
        card = _card(version, rules.targets)
    console.print(details_table(card))
    gates = gates_of(version)
    if gates:
        console.print(_gates_table(gates))
    cases = cases_of(root, version, tags.get("test_hash", ""))
    if cases.slices:
        metric = reported_metric(tags).name
        console.print(_slices_table(cases, metric, rules.task))
    decisions = [release for release in records(snapshot) if release.version == version.number]
    if decisions:
        console.print(_decisions_table(decisions))


def show_history(snapshot: RegistrySnapshot) -> None:
    """Print all decisions and all retrains, oldest first."""
    decisions = records(snapshot)
    if decisions:
        console.print(_decisions_table(decisions))
    else:
        console.print("nothing was decided yet")
    retrain_records = retrains(snapshot)
    if retrain_records:
        console.print("retrains, and runs that made a model (UTC)")
    for record in retrain_records:
        _show_retrain(record)


def gates_of(version: Version) -> list[Gate]:
    """Return the gates of a version, with their verdicts."""
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
    """Return the names and versions of Python, the platform and the libraries."""
    libraries: dict[str, str] = json.loads(version.tags.get("environment", "{}"))
    return libraries


def new_table(*columns: str) -> Table:
    """Return an empty table with a header."""
    width = min(WIDTH, console.width)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold", width=width)
    for column in columns:
        justify: JustifyMethod = "right" if column in _RIGHT_ALIGNED else "left"
        table.add_column(column, overflow="fold", justify=justify)
    return table


def details_table(rows: Sequence[tuple[str, str | Text]]) -> Table:
    """Return a table without a header: a name and a value in each row."""
    table = Table(
        box=None,
        show_header=False,
        pad_edge=False,
        width=min(WIDTH, console.width),
    )
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold", ratio=1)
    for name, value in rows:
        table.add_row(name, value)
    return table


def format_number(value: float | None) -> str:
    """Return a number with four digits, or nothing for None."""
    if value is None:
        return ""
    if abs(value) < 1e4:
        return f"{value:.4g}"
    return significant_digits(value)


def decision_time(release: Release) -> str:
    """Return the time of a decision, to the second."""
    return release.when[:19].replace("T", " ")


def _keep_on_one_line(table: Table, *positions: int) -> None:
    for position in positions:
        table.columns[position].no_wrap = True


def _card(version: Version, targets: Sequence[str]) -> list[tuple[str, str | Text]]:
    tags = version.tags
    leaderboard_row: dict[str, Any] = json.loads(tags.get("leaderboard_row", "{}"))
    rows = [
        (reported_metric(tags).name, _metric_sentence(tags)),
        ("test", _test_metrics(leaderboard_row)),
        ("cost", _cost(tags, leaderboard_row)),
        *_targets(tags, targets),
        ("data", tags.get("data_hash", "")),
        ("params", tags.get("pipeline_params_hash", tags.get("params_hash", ""))),
        ("DVC lock", tags.get("dvc_lock", "")),
        ("git", code_state(tags)),
        ("bundle", tags.get("bundle_sha256", "")),
        ("files", _bundle_files(tags)),
        ("run", version.run_id),
        ("environment", _joined_pairs(environment(version))),
        ("takes, gives", _signature(tags)),
        ("for example", tags.get("input_example", "")[:300]),
    ]
    return [(name, value) for name, value in rows if value]


def _targets(tags: Mapping[str, str], names: Sequence[str]) -> list[tuple[str, str]]:
    """Return what the model knows of its target, by the names of the tags."""
    rows = []
    for name in names:
        values = json.loads(tags.get(name, "[]"))
        if not all(isinstance(value, str | int | float) for value in values):
            raise TypeError(f"{name} holds more than texts and numbers")
        rows.append((name, ", ".join(str(value) for value in values)))
    return rows


def _metric_sentence(tags: Mapping[str, str]) -> str:
    metric = reported_metric(tags)
    count = tags.get("test_cases", "?")
    return f"{metric.value} on {count} test cases, interval {metric.interval}"


def _test_metrics(leaderboard_row: Mapping[str, Any]) -> str:
    metrics = leaderboard_row.get("test", {})
    known = {name: value for name, value in metrics.items() if value is not None}
    return ", ".join(f"{name} {significant_digits(value)}" for name, value in known.items())


def _cost(tags: Mapping[str, str], leaderboard_row: Mapping[str, Any]) -> str:
    size = shown_size(int(tags.get("bundle_bytes", 0)))
    latency = leaderboard_row.get("latency_ms", {})
    median = format_number(latency.get("p50"))
    slow = format_number(latency.get("p95"))
    throughput = leaderboard_row.get("throughput_per_s", 0)
    return f"{size}, p50 {median} ms, p95 {slow} ms, {throughput:,.0f} items/s"


def _bundle_files(tags: Mapping[str, str]) -> str:
    digests = json.loads(tags.get("bundle_files", "{}"))
    return ", ".join(f"{name} {digest[:12]}" for name, digest in digests.items())


def _signature(tags: Mapping[str, str]) -> str:
    signature: dict[str, Any] = json.loads(tags.get("signature", "{}"))
    sides = []
    for side, schema in signature.items():
        fields = ", ".join(schema.get("properties", {}))
        sides.append(f"{side}: {fields}")
    return "; ".join(sides)


def _joined_pairs(pairs: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {value}" for name, value in pairs.items())


def _slices_table(cases: Cases, metric: str, task: ChampionComparison) -> Table:
    table = new_table("slice of the test cases", "cases", metric)
    table.columns[2].justify = "right"
    for name, positions in sorted((cases.slices or {}).items()):
        level = task.level(cases.select(positions))
        table.add_row(name, f"{len(positions):,}", significant_digits(level))
    return table


def _gates_table(gates: Sequence[Gate]) -> Table:
    table = new_table("gate", "verdict", "value", "interval", "limit", "")
    _keep_on_one_line(table, 0, 1, 3)
    table.columns[5].ratio = 1
    for gate in gates:
        interval = ""
        if gate.interval:
            interval = f"{format_number(gate.interval[0])} to {format_number(gate.interval[1])}"
        table.add_row(
            gate.name,
            styled((gate.verdict, COLORS[gate.verdict])),
            format_number(gate.value),
            interval,
            format_number(gate.limit),
            gate.detail,
        )
    return table


def _decisions_table(releases: Sequence[Release]) -> Table:
    table = new_table("when (UTC)", "version", "decision", "champion", "who", "why")
    _keep_on_one_line(table, 0, 2, 3)
    table.columns[5].ratio = 1
    for release in releases:
        why = release.why
        if release.overrides:
            why += f" [overrides: {', '.join(release.overrides)}]"
        table.add_row(
            decision_time(release),
            str(release.version),
            release.decision,
            _champion_move(release),
            release.who,
            why,
        )
    return table


def _champion_move(release: Release) -> str:
    if release.before != release.after:
        return f"{release.before or '–'} → {release.after or '–'}"
    if release.before:
        return f"stays {release.before}"
    return "–"


def _show_retrain(record: RetrainRecord) -> None:
    """Print a line on a retrain, and below it the reason, the inputs and the seconds by stage."""
    head = f"{record.began[:19].replace('T', ' ')}  {record.trigger}: {record.outcome}"
    if record.version:
        head += f", version {record.version}"
    total_s = sum(record.seconds.values())
    console.print(
        f"{head}; {_champion_after(record)}; {total_s:.0f} s",
        style="bold" if record.before != record.after else None,
        soft_wrap=True,
    )
    for line in (record.detail, _retrain_inputs(record), _stage_seconds(record)):
        if line:
            console.print(f"    {line}", style="dim", soft_wrap=True)


def _champion_after(record: RetrainRecord) -> str:
    if record.before != record.after:
        return f"champion {record.before or '–'} → {record.after}"
    if record.before:
        return f"champion stays {record.before}"
    return "no champion"


def _retrain_inputs(record: RetrainRecord) -> str:
    rows = f"{record.rows:,} rows"
    if record.cursor:
        rows += f", up to {record.cursor}"
    inputs = (
        f"code {record.commit[:8] or '?'}, params {record.params[:8]}, "
        f"source {record.source[:8] or '?'} ({rows})"
    )
    if record.data:
        inputs += f", data {record.data[:8]}"
    return inputs


def _stage_seconds(record: RetrainRecord) -> str:
    order = list(STAGES)

    def position(entry: tuple[str, float]) -> int:
        stage = entry[0]
        if stage not in STAGES:
            return len(STAGES)
        return order.index(stage)

    stages = sorted(record.seconds.items(), key=position)
    return ", ".join(f"{stage} {seconds:.0f} s" for stage, seconds in stages)


def _gate_summary(gates: Sequence[Gate]) -> str:
    problems = []
    for verdict in ("refused", "borderline"):
        names = [gate.name for gate in gates if gate.verdict == verdict]
        if names:
            problems.append(f"{verdict}: {', '.join(names)}")
    if problems:
        return "; ".join(problems)
    return "passed" if gates else "not judged"


def _aliases(version: Version) -> str:
    if not version.aliases:
        return ""
    return f" ({', '.join(version.aliases)})"


def _format_milliseconds(milliseconds: int) -> str:
    """Return a time in milliseconds since 1970 as a date and a time, UTC."""
    return datetime.fromtimestamp(milliseconds / 1000, UTC).strftime("%Y-%m-%d %H:%M")
