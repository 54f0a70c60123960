"""What `gristmill new` shows: lines of plain text, columns aligned for Chinese too."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import Any

from components.core.console import ValueConsole
from components.core.escaping import one_line, terminal
from components.orchestration.creation.clean_preview import DryClean
from components.orchestration.creation.source_preview import ROWS, Intake
from components.stages.ingest.sample import SourceColumns
from components.stages.ingest.source_rows import RefusedRow, show
from components.tasks.base import Setting

_CELL = 60
_COLUMNS = 30
# Steps that a setting switches off by null or 0, and a value that switches them on.
_FORCED = {
    "tune.trials": "8",
    "compress.prune": "{}",
    "compress.quantize": "{}",
    "compress.distill": "{}",
}


def head(name: str, seen: SourceColumns, encodings: Iterable[str]) -> str:
    """Return the first line: name, format and encodings."""
    formats = sorted({unit.format for unit in seen.units})
    known = ", ".join(sorted(encodings)) or "binary"
    return f"{name}: {', '.join(formats)}, {known}"


def columns_table(
    seen: SourceColumns,
    roles: Mapping[str, str],
    notes: Mapping[str, str],
) -> list[str]:
    """Return a table of the columns and what they are taken for.

    Args:
        seen: the columns.
        roles: column -> role.
        notes: column -> what a person should know of it.
    """
    rows: list[tuple[str, ...]] = []
    telling = {*roles, *notes}
    names = sorted(seen.columns, key=lambda name: name not in telling)[:_COLUMNS]
    for name in [name for name in seen.columns if name in names]:
        column = seen.columns[name]
        examples = [each[name] for each in seen.examples if each.get(name) not in (None, "")]
        example = show({name: examples[0]}) if examples else ""
        length = f"{column.mean:.1f}"
        rows.append((name, roles.get(name, "-"), length, example, notes.get(name, "")))
    header = ["column", "taken as", "average length", "for example", "note"]
    if not any(row[-1] for row in rows):
        header.pop()
        rows = [row[:-1] for row in rows]
    hidden = len(seen.columns) - len(names)
    return [*table(header, rows), *([f"  and {hidden:,} more columns"] if hidden else [])]


def rows_line(intake: Intake, dry: DryClean) -> list[tuple[str, str]]:
    """Return what was read, refused and repeated."""
    read = f"{intake.read:,}"
    if not intake.whole:
        part = "the first" if intake.read >= ROWS else "a part"
        read = f"{read}, {part} of about {intake.total:,}"
    lines = [("rows", read)]
    if intake.splits:
        splits = ", ".join(f"{name} {count:,}" for name, count in intake.splits.items())
        lines.append(("splits of the source", splits))
    if intake.refused:
        lines.append(("refused by ingest", _reasons(intake.refused)))
    among = "" if dry.whole else f" of the first {dry.looked:,}"
    if dry.refused:
        lines.append((f"refused by clean{among}", _reasons(dry.refused)))
    if dry.conflicts:
        counts = f"{dry.conflicts:,}{among}"
        lines.append(("equal inputs with different labels", f"{counts}: clean.conflicts"))
    if dry.duplicates:
        lines.append(("repeated rows", f"{dry.duplicates:,}{among}: one of each stays"))
    return lines


def _reasons(counts: Mapping[str, int]) -> str:
    listed = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{count:,} {reason}" for reason, count in listed)


def refusals(found: Sequence[RefusedRow]) -> list[str]:
    """Return the first refused rows, with their lines."""
    lines = [f"  {one_line(str(row), 96)}" for row in found]
    return ["the first refused rows", *lines] if lines else []


def example_rows(intake: Intake, roles: Sequence[str]) -> list[str]:
    """Return the first rows, as they will be learned from."""
    values = chain.from_iterable(row.values() for row in intake.examples)
    if any(isinstance(value, bytes) for value in values):
        # Pictures cannot be shown as lines.
        return []
    shown = [role for role in roles if _has_value(intake.examples, role)]
    cells = [_cells(row, shown) for row in intake.examples]
    return ["the first rows", *table(shown, cells)]


def _has_value(rows: Iterable[Mapping[str, Any]], role: str) -> bool:
    return any(row.get(role) is not None for row in rows)


def _cells(row: Mapping[str, Any], roles: Iterable[str]) -> list[str]:
    return [show({role: row.get(role)}) for role in roles]


def decisions(settings: Sequence[Setting]) -> list[str]:
    """Return the params that the data decided, with their reasons."""
    if not settings:
        return []
    last = {setting.path: setting for setting in settings}
    width = max(len(path) for path in last)
    lines = []
    for path, setting in last.items():
        value = one_line(_value(setting.value), 40)
        lines.append(f"  {path.ljust(width)}  {value}  {one_line(setting.reason, 90)}")
    return ["params that these data need", *lines]


def skipped(settings: Sequence[Setting]) -> list[str]:
    """Return the steps that these data do not need, and how to have them anyway.

    Args:
        settings: that the data decided; the last of a path counts.
    """
    last = {setting.path: setting for setting in settings}
    lines = []
    for path, setting in last.items():
        force = _FORCED.get(path)
        if force and setting.value in (None, 0):
            reason = one_line(setting.reason.split("; --set")[0], 90)
            lines.append(f"skipped: {path} ({reason}); to have it: --set {path}={force}")
    return lines


def _value(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(map(str, value))
    return "null" if value is None else str(value)


def facts(pairs: Sequence[tuple[str, str]]) -> list[str]:
    """Return a line for each name and value."""
    return [f"  {terminal(name)}: {one_line(value, 400)}" for name, value in pairs]


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return a table as lines. What a cell holds is no markup."""
    from rich import box
    from rich.table import Table

    drawn = Table(box=box.SIMPLE)
    for index, name in enumerate(header):
        # The first column holds names, which must stay whole to be of use.
        drawn.add_column(one_line(name, _CELL), no_wrap=not index, overflow="fold")
    for row in rows:
        drawn.add_row(*[one_line(cell, _CELL) for cell in row])
    written = io.StringIO()
    ValueConsole(file=written, width=100, color_system=None).print(drawn)
    return [line.rstrip() for line in written.getvalue().splitlines() if line.strip()]
