"""Text that `gristmill new` prints: plain lines, with columns aligned for Chinese too."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import Any

from components.core.console import ValueConsole
from components.core.escaping import one_line, terminal
from components.orchestration.creation.clean_preview import DryClean
from components.orchestration.creation.source_preview import Intake
from components.stages.ingest.sample import SourceColumns, UnitSample
from components.stages.ingest.source_rows import RefusedRow, show
from components.tasks.base import Setting

# Most characters of a cell.
_CELL = 60
# Most columns of the source in a table.
_COLUMNS = 30
# The usual delimiter of a format.
_DELIMITERS = {"csv": ",", "tsv": "\t"}
# Steps that a setting of null or 0 switches off, with a value that switches them on.
_FORCED = {
    "tune.trials": "8",
    "compress.prune": "{}",
    "compress.quantize": "{}",
    "compress.distill": "{}",
}


def head(name: str, seen: SourceColumns, encodings: Iterable[str]) -> str:
    """Return the first line: name, format, an unusual delimiter, and encodings.

    Args:
        name: of the pipeline.
        seen: the columns of the source.
        encodings: of its text; none for binary data.
    """
    formats = ", ".join(sorted({_format_of(unit) for unit in seen.units}))
    encoding = ", ".join(sorted(encodings)) or "binary"
    return f"{name}: {formats}, {encoding}"


def _format_of(unit: UnitSample) -> str:
    """Return the format of a unit, and its delimiter where it is not that of the format."""
    if unit.delimiter in ("", _DELIMITERS.get(unit.format)):
        return unit.format
    return f"{unit.format} separated by {unit.delimiter!r}"


def columns_table(
    seen: SourceColumns,
    roles: Mapping[str, str],
    notes: Mapping[str, str],
    first: Sequence[str],
) -> list[str]:
    """Return a table of the columns with their roles.

    Args:
        seen: the columns of the source.
        roles: column -> role.
        notes: column -> a remark about it.
        first: columns that must be shown.
    """
    # Columns with a role or a remark come before the others where not all fit.
    important = {*roles, *notes}
    if len(important) > _COLUMNS:
        important = {*first, *[name for name in notes if name not in roles]}
    names = sorted(seen.columns, key=lambda name: name not in important)[:_COLUMNS]
    rows: list[list[str]] = []
    for name, column in seen.columns.items():
        if name in names:
            role = roles.get(name, "-")
            length = f"{column.mean:.1f}"
            rows.append([name, role, length, _example(seen, name), notes.get(name, "")])
    header = ["column", "taken as", "average length", "for example", "note"]
    if not any(row[-1] for row in rows):
        header.pop()
        rows = [row[:-1] for row in rows]
    lines = table(header, rows)
    hidden = len(seen.columns) - len(names)
    if hidden:
        lines.append(f"  and {hidden:,} more columns")
    return lines


def _example(seen: SourceColumns, name: str) -> str:
    """Return the first value of a column for a cell; "" without one."""
    for record in seen.examples:
        if record.get(name) not in (None, ""):
            return show({name: record[name]})
    return ""


def rows_line(intake: Intake, dry: DryClean, values: str) -> list[tuple[str, str]]:
    """Return the numbers of rows that were read, refused and repeated, as names and values.

    Args:
        intake: the rows as ingest reads them.
        dry: the preview of clean.
        values: what targets are called.
    """
    lines = [("rows", _read_rows(intake))]
    if intake.splits:
        splits = ", ".join(f"{name} {count:,}" for name, count in intake.splits.items())
        lines.append(("splits of the source", splits))
    if intake.refused:
        lines.append(("refused by ingest", _reasons(intake.refused)))
    among = ""
    if not dry.whole:
        among = f" of the first {dry.row_count:,}"
    if dry.refused:
        lines.append((f"refused by clean{among}", _reasons(dry.refused)))
    if dry.conflicts:
        counts = f"{dry.conflicts:,}{among}"
        lines.append((f"equal inputs with different {values}", f"{counts}: clean.conflicts"))
    if dry.duplicates:
        stays = "one of each stays"
        if dry.keeps_all:
            stays = "all stay, in one split"
            if dry.has_few_inputs:
                stays = "all stay, each a case of its own"
        lines.append(("repeated rows", f"{dry.duplicates:,}{among}: {stays}"))
    return lines


def _read_rows(intake: Intake) -> str:
    if intake.whole:
        return f"{intake.read:,}"
    part = "the first" if intake.total > intake.read else "a part"
    return f"{intake.read:,}, {part} of about {intake.total:,}"


def _reasons(counts: Mapping[str, int]) -> str:
    """Return reasons with their counts, the most frequent first."""
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{count:,} {reason}" for reason, count in ordered)


def refusals(rows: Sequence[RefusedRow]) -> list[str]:
    """Return lines about the first refused rows.

    Args:
        rows: the first refused rows.
    """
    if not rows:
        return []
    lines = [f"  {one_line(str(row), 96)}" for row in rows]
    return ["the first refused rows", *lines]


def example_rows(intake: Intake, roles: Sequence[str]) -> list[str]:
    """Return a table of the first rows, as the model will get them; nothing for pictures.

    Args:
        intake: the rows as ingest reads them.
        roles: columns of the raw table.
    """
    values = chain.from_iterable(row.values() for row in intake.examples)
    if any(isinstance(value, bytes) for value in values):
        return []
    columns = [role for role in roles if _has_value(intake.examples, role)]
    cells = [_cells(row, columns) for row in intake.examples]
    return ["the first rows", *table(columns, cells)]


def _has_value(rows: Iterable[Mapping[str, Any]], role: str) -> bool:
    return any(row.get(role) is not None for row in rows)


def _cells(row: Mapping[str, Any], roles: Iterable[str]) -> list[str]:
    return [show({role: row.get(role)}) for role in roles]


def decisions(settings: Sequence[Setting]) -> list[str]:
    """Return lines about the params that the data decided, with their reasons.

    Args:
        settings: that the data decided. The last one of each path counts.
    """
    if not settings:
        return []
    last = _last_of_each_path(settings)
    width = max(len(path) for path in last)
    lines = []
    for path, setting in last.items():
        value = one_line(_value(setting.value), 40)
        reason = one_line(setting.reason, 90)
        lines.append(f"  {path.ljust(width)}  {value}  {reason}")
    return ["params that these data need", *lines]


def _last_of_each_path(settings: Sequence[Setting]) -> dict[str, Setting]:
    return {setting.path: setting for setting in settings}


def skipped(settings: Sequence[Setting]) -> list[str]:
    """Return lines about the steps that these data do not need, and how to switch them on.

    Args:
        settings: that the data decided. The last one of each path counts.
    """
    lines = []
    for path, setting in _last_of_each_path(settings).items():
        force = _FORCED.get(path)
        # A setting without a reason is the person's.
        if force and setting.reason and setting.value in (None, 0):
            reason = one_line(setting.reason.split("; --set")[0], 90)
            lines.append(f"skipped: {path} ({reason}). To switch it on: --set {path}={force}")
    return lines


def _value(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(map(str, value))
    if value is None:
        return "null"
    return str(value)


def named_values(pairs: Sequence[tuple[str, str]]) -> list[str]:
    """Return a line for each pair of name and value.

    Args:
        pairs: names and values.
    """
    return [f"  {terminal(name)}: {one_line(value, 400)}" for name, value in pairs]


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return a table as lines. Cells are not read as markup.

    Args:
        header: names of the columns.
        rows: cells of each row.
    """
    from rich import box
    from rich.table import Table

    grid = Table(box=box.SIMPLE)
    for index, name in enumerate(header):
        # The first column holds names, which are of no use unless they are whole.
        grid.add_column(one_line(name, _CELL), no_wrap=not index, overflow="fold")
    for row in rows:
        grid.add_row(*[one_line(cell, _CELL) for cell in row])
    output = io.StringIO()
    ValueConsole(file=output, width=100, color_system=None).print(grid)
    return [line.rstrip() for line in output.getvalue().splitlines() if line.strip()]
