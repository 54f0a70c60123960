"""A first look at somebody's data: what the columns hold, which of them are meant, and a preview for the eye."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa

from components.core.errors import GristmillError
from components.ingest import files
from components.ingest.columns import Layout, is_nothing, nearest
from components.ingest.params import Files
from components.ingest.rows import Record, Unit, show
from components.ingest.stage import READERS

_ROWS = 100_000  # looked at for guesses and preview
_CLASSES = 100
_LABELS = (("label", "labels", "class", "target", "标签", "类别"), ("sentiment", "category", "polarity", "topic", "stars", "rating", "score", "情感", "分类", "评分"))
_NO_INPUT = ("id", "group", "split")
_TABLES = ("csv", "tsv", "jsonl", "parquet")


@dataclass
class Stats:
    """What a column holds, as far as it was looked at."""

    kind: pa.DataType
    filled: int = 0
    length: int = 0
    values: Counter[str] = field(default_factory=Counter)  # stops growing once there are too many for classes

    def add(self, value: Any) -> None:
        """Count one value."""
        data = value.get("bytes") if isinstance(value, dict) else value
        if data is None or (isinstance(data, str) and is_nothing(data)):
            return
        self.kind = pa.binary() if isinstance(data, bytes) else pa.string()
        self.filled += 1
        self.length += len(data) if isinstance(data, (bytes, str)) else 1
        if len(self.values) <= _CLASSES and not isinstance(data, bytes):
            self.values[str(data).strip()] += 1

    @property
    def mean(self) -> float:
        """Average length."""
        return self.length / max(self.filled, 1)

    @property
    def is_class(self) -> bool:
        """A few short values that come again and again."""
        return 2 <= len(self.values) <= min(_CLASSES, self.filled / 2) and self.mean <= 50


@dataclass
class Look:
    """A first look at data."""

    units: Sequence[Unit]
    columns: dict[str, Stats]
    rows: list[Mapping[str, Any]]  # the first three
    count: int
    unusable: int
    encodings: set[str]

    @property
    def is_table(self) -> bool:
        """Whether the data name their columns."""
        return self.units[0].format in _TABLES


def look_at(root: Path, path: str, wanted: Layout) -> Look:
    """Read the first rows of a file or folder.

    Args:
        root: of the repository.
        path: as params.yaml says it.
        wanted: the task's columns under their own names.

    Raises:
        GristmillError: nothing there that can be read.
    """
    look = Look(files.units(Files(kind="files", path=path), root), {}, [], 0, 0, set())
    anything = Layout([], wanted.limit)
    for unit in look.units:
        reader = READERS[unit.format](unit, anything if look.is_table else wanted, look.encodings)
        for item in islice(reader, _ROWS - look.count):
            look.count += 1
            if not isinstance(item, Record):
                look.unusable += 1
                continue
            if len(look.rows) < 3:
                look.rows.append(item.values)
            for column, value in item.values.items():
                look.columns.setdefault(column, Stats(pa.null())).add(value)
    if not look.rows:
        raise GristmillError("holds no rows" if not look.unusable else f"has no usable row among the first {look.unusable}", where=path, remedy="give a file with a header and rows")
    return look


def choose_columns(look: Look, wanted: Layout, text: str | None, label: str | None) -> dict[str, str]:
    """Role -> column, for tables; nothing for data whose classes are files or folders.

    Args:
        look: at the data.
        wanted: the task's columns.
        text: the input's column, guessed if None.
        label: the target's column, guessed if None.

    Raises:
        GristmillError: no such column, or a guess that would be a gamble.
    """
    if not look.is_table:
        if text or label:
            raise GristmillError("names a column, but these data have none: a file or folder is a class", where="--text" if text else "--label", remedy="leave it out")
        return {}
    for option, column in (("--text", text), ("--label", label)):
        if column is not None and column not in look.columns:
            raise GristmillError(f"there is no column {column!r}{nearest(column, look.columns)}", where=option, remedy=f"take one of: {', '.join(look.columns)}")
    columns = {}
    if wanted.target is not None:
        columns[wanted.target.name] = label or _guess_label(look, wanted.target.name, text)
    return {wanted.input.name: text or _guess_input(look, wanted, columns.values()), **columns}


def _guess_label(look: Look, role: str, text: str | None) -> str:
    free = {name: stats for name, stats in look.columns.items() if name != text and name not in _NO_INPUT}
    if role in free:
        return role
    for tier in _LABELS:
        named = [name for name, stats in free.items() if name.casefold() in tier and 0 < len(stats.values) <= _CLASSES]
        if len(named) == 1:
            return named[0]
        if named:
            break
    else:
        named = [name for name, stats in free.items() if stats.is_class]
    return _only(named, list(free), "--label", "the label")


def _guess_input(look: Look, wanted: Layout, taken: Collection[str]) -> str:
    kind = wanted.input.type
    free = {name: stats for name, stats in look.columns.items() if name not in taken and name not in _NO_INPUT and stats.kind == kind}
    if wanted.input.name in free:
        return wanted.input.name
    longest = sorted(free, key=lambda name: -free[name].mean)
    alike = [name for name in longest if free[name].mean > 0.7 * free[longest[0]].mean]
    return _only(alike, list(look.columns), "--text", f"the {wanted.input.name}")


def _only(found: Sequence[str], all_: Sequence[str], option: str, what: str) -> str:
    if len(found) == 1:
        return found[0]
    columns = ", ".join(map(repr, all_))
    which = f"{what} could be {' or '.join(map(repr, found))}" if found else f"which column holds {what} cannot be told" + (f": there are {columns}" if all_ else ": no column is left for it")
    raise GristmillError(which, where="--data", remedy=f"say which: {option} COLUMN")


def preview(name: str, look: Look, wanted: Layout, columns: Mapping[str, str]) -> list[str]:
    """What was seen and how it will be taken: lines of plain text, columns aligned for Chinese too."""
    role = {column: role for role, column in columns.items()} or {column.source: column.name for column in wanted.columns}
    examples = {column: next((row[column] for row in look.rows if row.get(column) not in (None, "")), None) for column in look.columns}
    known = [(column, role.get(column, column if column in _NO_INPUT else "-"), f"{stats.mean:.1f}", show({column: examples[column]})) for column, stats in look.columns.items()]
    lines = [f"{name}: {look.units[0].format}, {', '.join(sorted(look.encodings)) or 'binary'}", *_table(("column", "taken as", "average length", "for example"), known)]
    if wanted.target is not None:
        counts = look.columns[columns.get(wanted.target.name, wanted.target.source)].values
        few = "" if len(counts) > 1 else ": one more is needed to learn from"
        lines += [f"classes: {len(counts)} in {'the first ' if look.count >= _ROWS else ''}{look.count} rows{few}"]
        lines += _table(("class", "rows"), [(each, str(count)) for each, count in sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:20]])
    used = [column for column in role if column in look.columns]
    lines += ["the first rows", *_table(used, [[show({column: row.get(column)}) for column in used] for row in look.rows])]
    return lines + ([f"{look.unusable} rows cannot be read and will be quarantined"] if look.unusable else [])


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE)
    for name in header:
        table.add_column(Text(name))
    for row in rows:
        table.add_row(*[Text(_short(cell)) for cell in row])
    written = io.StringIO()
    Console(file=written, width=100, color_system=None).print(table)
    return [line.rstrip() for line in written.getvalue().splitlines() if line.strip()]


def _short(text: str) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= 60 else flat[:59] + "…"
