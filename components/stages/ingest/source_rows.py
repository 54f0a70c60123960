"""Records of a source to rows of the raw table; what cannot be used is set aside with a reason."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pyarrow as pa
import pyarrow.compute as pc

from components.fields.base import Reject
from components.stages.ingest.columns import Layout
from components.tasks.base import ANY_TARGET, TargetWords

if TYPE_CHECKING:
    from components.stages.ingest.dialects import Dialect

QUARANTINE = pa.schema([("origin", pa.string()), ("reason", pa.string()), ("excerpt", pa.string())])
_EXCERPT = 200
# Records, and characters or bytes of their values, that become rows at once.
_BATCH = 20_000
_SIZE = 1 << 24

Format = Literal[
    "csv",
    "tsv",
    "jsonl",
    "json",
    "xlsx",
    "parquet",
    "arrow",
    "text",
    "fasttext",
    "folders",
    "digits",
]
TABLES: tuple[Format, ...] = ("csv", "tsv", "jsonl", "json", "xlsx", "parquet", "arrow")


@dataclass(frozen=True)
class Unit:
    """A part of a source that is read on its own: a file, or a folder."""

    name: str  # for people and for ids: relative, with forward slashes
    paths: tuple[Path, ...]
    format: Format
    encoding: str = "auto"
    # Value of the target in all its rows, where the name of the file or folder says it.
    target_value: str | None = None
    split: str | None = None  # of rows that bring none
    # A folder beside those of values, whose files have no target.
    unlabelled: bool = False
    pictures: bool = False  # a table whose further paths are the pictures that it names
    # Of a table: whether its first line names the columns, and their names where it does not.
    header: Literal["auto", True, False] = "auto"
    column_names: tuple[str, ...] = ()
    # How a table of text is written, where it has been looked at.
    dialect: Dialect | None = None
    # Of a folder that is no value: the target of each of its paths, where their names say it.
    file_targets: tuple[str | None, ...] = ()
    # Of a folder: the reason for which files without a target are refused.
    outside: str = ANY_TARGET.outside
    # Of a table: the columns that are 1 in the rows of their value and else 0.
    one_hot: tuple[str, ...] = ()
    # Of a table: whether the params give the target of all its rows.
    has_file_target: bool = False
    # Column -> names of the values that its numbers stand for.
    value_names: tuple[tuple[str, tuple[str, ...]], ...] = ()
    # Of a folder of texts: whether only the first line of each file that is not blank is read.
    first_line: bool = False
    # With it: whether the other lines are rows without a target. A file is then a group.
    other_lines: bool = False
    # Of a workbook: the sheet to read.
    sheet: str | None = None
    # Of a mix: the part that it is of.
    part: str = ""


@dataclass(frozen=True)
class Record:
    """One record of a unit.

    Args:
        row: its line or position in the unit; 1 is the first.
        values: column of the source -> value.
        file: name of its file, in a folder.
        picture: name of its picture, in a table that names pictures.
    """

    row: int
    values: Mapping[str, Any]
    file: str = ""
    picture: str = ""


@dataclass(frozen=True)
class Bad:
    """A place that holds no record."""

    row: int
    reason: str
    excerpt: str = ""
    file: str = ""  # of a folder


@dataclass(frozen=True)
class RefusedRow:
    """A row that was set aside."""

    origin: str  # file:line, or the file of a folder
    reason: str
    excerpt: str = ""

    def __str__(self) -> str:
        text = f"{self.origin}: {self.reason}"
        if self.excerpt:
            text += f": {self.excerpt}"
        return text


def origin_of(unit: Unit, item: Record | Bad) -> str:
    """Return where a record comes from: file and line, or the file of a folder."""
    if not item.file:
        origin = f"{unit.name}:{item.row}"
        if isinstance(item, Record) and item.picture:
            origin += f" ({item.picture})"
        return origin
    return item.file if unit.name == "." else f"{unit.name}/{item.file}"


def shaped(
    found: Iterable[Record | Bad], wanted: Layout, unit: Unit, key: str
) -> tuple[pa.Table, pa.Table]:
    """Return records as raw rows, and those that are refused (see `shaped_parts`)."""
    tables, bad = [wanted.schema.empty_table()], [QUARANTINE.empty_table()]
    for rows, refused in shaped_parts(found, wanted, unit, key):
        tables.append(rows)
        bad.append(refused)
    return pa.concat_tables(tables), pa.concat_tables(bad)


def shaped_parts(
    found: Iterable[Record | Bad], wanted: Layout, unit: Unit, key: str
) -> Iterator[tuple[pa.Table, pa.Table]]:
    """Yield records as raw rows, and those that are refused, some thousands at once.

    Args:
        found: in the source's order.
        wanted: the columns.
        unit: where they come from.
        key: starts the ids of rows that bring none.
    """
    for chunk in _chunks(found):
        rows, rejected = [], []
        for item in chunk:
            origin = origin_of(unit, item)
            try:
                if isinstance(item, Bad):
                    raise Reject(item.reason, item.excerpt)
                row = wanted.row(item.values)
            except Reject as reject:
                excerpt = reject.detail
                if not excerpt and not isinstance(item, Bad):
                    excerpt = show(item.values)
                rejected.append(
                    {"origin": origin, "reason": reject.reason, "excerpt": _printable(excerpt)}
                )
            else:
                rows.append(
                    {
                        **row,
                        "id": row["id"] or f"{key}-{item.row}",
                        "split": row["split"] or unit.split,
                        "origin": origin,
                    }
                )
        yield (
            pa.Table.from_pylist(rows, schema=wanted.schema),
            pa.Table.from_pylist(rejected, schema=QUARANTINE),
        )


def _chunks(found: Iterable[Record | Bad]) -> Iterator[list[Record | Bad]]:
    """Yield records by the thousand: as many as bounds of rows and of their size allow."""
    chunk: list[Record | Bad] = []
    size = 0
    for item in found:
        chunk.append(item)
        if isinstance(item, Record):
            values = item.values.values()
            size += sum(len(value) for value in values if isinstance(value, (str, bytes)))
        if len(chunk) >= _BATCH or size >= _SIZE:
            yield chunk
            chunk = []
            size = 0
    if chunk:
        yield chunk


def usable_splits(
    rows: pa.Table, target: str | None, units: Sequence[Unit], words: TargetWords
) -> tuple[pa.Table, str]:
    """Return rows with splits that can be evaluated, and a remark about a change.

    Names of files may say a test split that has no targets. Then validation rows with targets
    become the test rows. Where there are none, rows with targets lose their split, so that a later
    stage splits them. Rows without targets keep theirs.

    Args:
        rows: raw rows.
        target: its column; None without one.
        units: of the source.
        words: of the task, for the remark.
    """
    if target is None or not any(unit.split for unit in units):
        return rows, ""
    with_target = pc.is_valid(rows[target])
    present = set(rows["split"].filter(with_target).to_pylist())
    if "test" in present or not present - {None}:
        return rows, ""
    if "validation" in present:
        old, new = "validation", "test"
        note = (
            f"no row of a test split has a {words.value}: the validation rows are taken for test, "
            "and a validation split is made from train"
        )
    else:
        old, new = "train", None
        note = f"only train rows have {words.values}: validation and test splits are made from them"
    chosen = pc.and_(with_target, pc.fill_null(pc.equal(rows["split"], old), False))
    splits = pc.if_else(chosen, pa.scalar(new, pa.string()), rows["split"])
    return rows.set_column(rows.schema.get_field_index("split"), "split", splits), note


def unique_ids(rows: pa.Table, keys: Mapping[str, str]) -> tuple[pa.Table, int]:
    """Replace ids that occur more than once.

    Args:
        rows: raw rows.
        keys: unit name -> what its ids start with.

    Returns:
        The rows, and how many ids were replaced.
    """
    if pc.count_distinct(rows["id"], mode="all").as_py() == rows.num_rows:
        return rows, 0
    ids = rows["id"].to_pylist()
    seen: set[str] = set()
    replaced = 0
    for position, origin in enumerate(rows["origin"].to_pylist()):
        if ids[position] in seen:
            ids[position] = _generated_id(origin, position, keys)
            replaced += 1
        seen.add(ids[position])
    column = rows.schema.get_field_index("id")
    return rows.set_column(column, "id", pa.array(ids, pa.string())), replaced


def _generated_id(origin: str, position: int, keys: Mapping[str, str]) -> str:
    """Return an id for a row: of its unit and line, or of its origin and position."""
    name, _, row = origin.partition(" (")[0].rpartition(":")
    if name in keys:
        return f"{keys[name]}-{row}"
    return f"{hashlib.sha256(origin.encode()).hexdigest()[:8]}-{position}"


def show(values: Mapping[str, Any]) -> str:
    """Return a record as one line of text."""
    return " | ".join(
        f"<{len(value)} bytes>" if isinstance(value, bytes) else str(value)[:_EXCERPT]
        for value in values.values()
        if value is not None
    )


def _printable(text: str) -> str:
    """Return the start of a text, as valid UTF-8."""
    return text[:_EXCERPT].encode("utf-8", "replace").decode("utf-8")
