"""Tables of Excel workbooks (.xlsx), through openpyxl in its read-only mode."""

from __future__ import annotations

import io
import shlex
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, time
from itertools import islice
from typing import Any

from components.core.errors import InputError
from components.stages.ingest.columns import Layout, nearest
from components.stages.ingest.compressed import FREE_BYTES, MOST_TIMES, read_bytes
from components.stages.ingest.dialects import column_names, title_rows
from components.stages.ingest.source_rows import Unit

_SAMPLE_ROWS = 2000
_MAGIC = {b"\xd0\xcf\x11\xe0": "is an old or encrypted Excel file"}


Row = tuple[int, list[Any]]


@dataclass(frozen=True)
class Sheet:
    """The sheet of a workbook that holds the table."""

    # Whether the first row names the columns.
    header: bool
    names: tuple[str, ...]
    # Rows of one cell above the table, with their numbers.
    titles: Sequence[Row]
    # The rows of the table with their numbers, its header included.
    rows: Iterator[Row]


def sheet_rows(unit: Unit, wanted: Layout) -> Sheet:
    """Return the sheet that holds the table.

    Args:
        unit: a workbook.
        wanted: columns; of several sheets with data the one that has them is taken.

    Raises:
        InputError: it is no workbook, or more than one sheet could be meant.
    """
    from openpyxl import load_workbook
    from openpyxl.utils.exceptions import InvalidFileException

    content = _content(unit)
    try:
        book = load_workbook(io.BytesIO(content), read_only=True, data_only=True, keep_links=False)
        sheets = {
            sheet.title: sheet for sheet in book.worksheets if next(_rows(sheet), None) is not None
        }
    except (
        InvalidFileException,
        KeyError,
        ValueError,
        OSError,
        SyntaxError,
        zipfile.BadZipFile,
    ) as error:
        raise _unreadable(unit, str(error)) from None
    if not sheets:
        raise InputError(
            "has no sheet with rows", where=unit.name, remedy="put rows into its first sheet"
        )
    tables = {title: _body(sheet) for title, sheet in sheets.items()}
    firsts = {title: rows[0][1] for title, (_, rows) in tables.items()}
    name = _chosen(unit, firsts, wanted)
    titles, rows = tables[name]
    first, *sample = [_shown_row(row) for _, row in rows]
    header, names = column_names(unit, first, sample, wanted)
    return Sheet(
        header,
        names,
        titles,
        islice(_rows(sheets[name]), len(titles), None),
    )


def _body(sheet: Any) -> tuple[list[Row], list[Row]]:
    """Return the rows of a title above the table, and the first rows of the table."""
    rows = list(islice(_rows(sheet), _SAMPLE_ROWS))
    count = title_rows([_shown_row(row) for _, row in rows])
    return rows[:count], rows[count:]


def _shown_row(row: Sequence[Any]) -> list[str]:
    """Return the cells of a row as texts."""
    return [_shown(cell) for cell in row]


def _chosen(unit: Unit, firsts: Mapping[str, Sequence[Any]], wanted: Layout) -> str:
    """Return the title of the sheet to read: the only one, or the only one with all columns.

    Args:
        unit: the workbook.
        firsts: title -> the first row of the sheet.
        wanted: the columns to read.

    Raises:
        InputError: several sheets could be meant.
    """
    titles = list(firsts)
    if unit.sheet is not None:
        return _named_sheet(unit, titles, unit.sheet)
    if len(titles) == 1:
        return titles[0]
    required = {column.source for column in wanted.columns if column.must}
    fitting = []
    for title, first in firsts.items():
        if required and required <= set(map(str, first)):
            fitting.append(title)
    if len(fitting) == 1:
        return fitting[0]
    names = ", ".join(map(repr, titles))
    rows = "rows"
    if len({tuple(map(str, first)) for first in firsts.values()}) == 1:
        rows = "rows and the same header"
    raise InputError(
        f"has {len(titles)} sheets with {rows}: {names}",
        where=unit.name,
        remedy="set ingest.source.sheet to one of them (gristmill new: "
        f"--set ingest.source.sheet={shlex.quote(titles[0])}), or save each as a CSV",
    )


def _named_sheet(unit: Unit, titles: Sequence[str], name: str) -> str:
    """Return the title of the sheet that params name.

    Raises:
        InputError: there is none with rows.
    """
    if name not in titles:
        raise InputError(
            f"has no sheet {name!r} with rows{nearest(name, titles)}",
            where=unit.name,
            remedy=f"set ingest.source.sheet to one of {', '.join(map(repr, titles))}",
        )
    return name


def _rows(sheet: Any) -> Iterator[tuple[int, list[Any]]]:
    """Yield the rows that are not blank, without blank cells at their ends."""
    # What a file says of its own size may be wrong.
    sheet.reset_dimensions()
    for number, cells in enumerate(sheet.iter_rows(values_only=True), 1):
        row = [_value(cell) for cell in cells]
        while row and (row[-1] is None or row[-1] == ""):
            row.pop()
        if row:
            yield number, row


def padded(row: list[Any], count: int) -> list[Any]:
    """Return a row with the blank cells at its end that a workbook does not store."""
    return row + [None] * (count - len(row))


def _value(cell: Any) -> Any:
    """Return the value of a cell, with a date or another object as text."""
    if isinstance(cell, datetime) and cell.time() == time(0):
        return cell.date().isoformat()
    return cell if cell is None or isinstance(cell, (str, bool, int, float)) else str(cell)


def _shown(cell: Any) -> str:
    """Return a cell as text; empty for an empty cell."""
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell))
    return "" if cell is None else str(cell)


def _content(unit: Unit) -> bytes:
    """Return the bytes of a workbook, which is a ZIP archive that must not expand without end."""
    content = read_bytes(unit.paths[0], unit.name)
    if not content:
        raise InputError(
            "is empty",
            where=unit.name,
            remedy="put rows into it, or set ingest.source.path to another file",
        )
    if content[:4] in _MAGIC:
        raise _unreadable(unit, _MAGIC[content[:4]])
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            size = sum(entry.file_size for entry in archive.infolist())
    except zipfile.BadZipFile as error:
        raise _unreadable(unit, str(error)) from None
    if size > max(FREE_BYTES, MOST_TIMES * len(content)):
        what = f"expands to {size >> 20:,} MiB, more than {MOST_TIMES} times its size"
        raise InputError(what, where=unit.name, remedy="save the sheet as CSV")
    return content


def _unreadable(unit: Unit, why: str) -> InputError:
    """Return the error for a file that cannot be read as a workbook."""
    return InputError(
        f"is no workbook that can be read: {why}",
        where=unit.name,
        remedy="save it as .xlsx again, or as CSV",
    )
