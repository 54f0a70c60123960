"""What batch scoring reads: Parquet, CSV, TSV or JSON lines, in pieces that are the same on each reading."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from components.core.errors import InputError
from components.stages.ingest import formats
from components.stages.ingest.columns import Column, Layout, layout, nearest
from components.stages.ingest.encodings import detect
from components.stages.ingest.source_files import SUFFIXES
from components.stages.ingest.source_rows import Bad, Format, Record, Unit
from components.tasks.base import Role

KINDS: Mapping[Format, formats.Reader | None] = {
    "parquet": None,
    "csv": formats.tables,
    "tsv": formats.tables,
    "jsonl": formats.objects,
}
_ROWS, _BYTES = (
    4096,
    1 << 24,
)  # a piece ends at either; never by the number of workers, or a resumed run would cut others
_STEP = 256


@dataclass(frozen=True)
class Rows:
    """A piece of the input."""

    originals: pa.Table
    broken: Sequence[str | None]  # why a row is no record; None: it is one


@dataclass(frozen=True)
class Asked(Layout):
    """The columns that are asked, whatever else a file holds."""

    def check(self, found: Iterable[str], where: str) -> None:
        """Raise InputError where the column is absent or a name stands twice: original columns are kept, so none may hide another."""
        names = list(found)
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise InputError(
                f"has more than one column named {twice[0]!r}",
                where=where,
                remedy="rename all but one",
            )
        if self.input.source not in names:
            known = ", ".join(map(repr, names[:30])) or "none"
            raise InputError(
                f"has no column {self.input.source!r}{nearest(self.input.source, names)}; its columns: {known}",
                where=where,
                remedy="--column NAME names the one to ask about",
            )


def asked(
    roles: Sequence[Role], column: str | None, named: Mapping[str, str], limit: int | None
) -> Asked:
    """The input columns of a task.

    Args:
        roles: of its schema.
        column: the first one's name in the file; None: as ingest knows it.
        named: `ingest.columns`.
        limit: bytes of one value; None: what suits the kind of input.
    """
    inputs = [role for role in roles if role.role == "input"]
    names = {role.name: named[role.name] for role in inputs if role.name in named} | (
        {inputs[0].name: column} if column else {}
    )
    found = layout(inputs, names, limit)
    return Asked([each for each in found.columns if each.role == "input"], found.limit)


def kind_of(path: Path, option: str) -> Format:
    """The format that a suffix names.

    Raises:
        InputError: none that rows are read from or written to.
    """
    kind = SUFFIXES.get(path.suffix.lower())
    if kind is None or kind not in KINDS:
        known = ", ".join(sorted(suffix for suffix, each in SUFFIXES.items() if each in KINDS))
        raise InputError(
            f"{path.name!r} has none of the suffixes {known}",
            where=option,
            remedy="name the format by the suffix",
        )
    return kind


def count_rows(path: Path) -> int | None:
    """Rows of a Parquet file; None where only reading tells."""
    if kind_of(path, "--in") != "parquet":
        return None
    with _parquet(path) as file:
        return int(file.metadata.num_rows)


def pieces(path: Path, wanted: Asked) -> Iterator[Rows]:
    """Read a file once, from its beginning to its end.

    Raises:
        InputError: it cannot be read as its suffix says, or lacks the column.
    """
    kind = kind_of(path, "--in")
    reader = KINDS[kind]
    if reader is None:
        yield from _parquet_pieces(path, wanted)
        return
    if path.stat().st_size == 0:
        raise InputError("is empty", where=path.name, remedy="put rows into it")
    try:
        encoding = detect(path, "auto", path.name)
    except InputError as error:
        raise InputError(error.what, where=error.where, remedy="write it as UTF-8") from None
    yield from _record_pieces(
        reader(Unit(path.name, (path,), kind, encoding), wanted, set()), wanted.input.source
    )


def _parquet(path: Path) -> Any:
    try:
        return pq.ParquetFile(path)
    except (pa.ArrowException, OSError) as error:
        raise InputError(
            f"is not readable Parquet: {error}", where=path.name, remedy="write the file again"
        ) from None


def _parquet_pieces(path: Path, wanted: Asked) -> Iterator[Rows]:
    with _parquet(path) as file:
        wanted.check(file.schema_arrow.names, path.name)
        held: list[pa.RecordBatch] = []
        try:
            for batch in file.iter_batches(batch_size=min(_STEP, _ROWS)):
                held.append(batch)
                if (
                    sum(each.num_rows for each in held) >= _ROWS
                    or sum(each.nbytes for each in held) >= _BYTES
                ):
                    yield Rows(
                        pa.Table.from_batches(held), [None] * sum(each.num_rows for each in held)
                    )
                    held = []
        except (pa.ArrowException, OSError) as error:
            raise InputError(
                f"is not readable Parquet: {error}", where=path.name, remedy="write the file again"
            ) from None
        if held:
            yield Rows(pa.Table.from_batches(held), [None] * sum(each.num_rows for each in held))


def _record_pieces(found: Iterable[Record | Bad], column: str) -> Iterator[Rows]:
    held: list[Record | Bad] = []
    size = 0
    for item in found:
        held.append(item)
        size += (
            sum(len(value) for value in item.values.values() if isinstance(value, str))
            if isinstance(item, Record)
            else 0
        )
        if len(held) >= _ROWS or size >= _BYTES:
            yield _as_rows(held, column)
            held, size = [], 0
    if held:
        yield _as_rows(held, column)


def _as_rows(items: Sequence[Record | Bad], column: str) -> Rows:
    names = dict.fromkeys(
        name for item in items if isinstance(item, Record) for name in item.values
    )
    values = [item.values if isinstance(item, Record) else {} for item in items]
    broken = [
        f"{item.reason} (line {item.row})"
        if isinstance(item, Bad)
        else _fault(item.values.get(column))
        for item in items
    ]
    table = (
        pa.table({_written(name): _column([each.get(name) for each in values]) for name in names})
        if names
        else pa.table({"": pa.nulls(len(items))}).drop_columns([""])
    )
    return Rows(table, broken)


def _column(values: Sequence[Any]) -> pa.Array:
    """Values of one kind as that kind; of several, as text."""
    try:
        return pa.array(values)
    except (pa.ArrowException, UnicodeEncodeError, OverflowError):
        return pa.array(
            [
                None
                if value is None
                else _written(
                    value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
                )
                for value in values
            ]
        )


def _fault(value: Any) -> str | None:
    """Why a value is no text, where the file that is written has another in its place: half a surrogate pair, or what is nested."""
    if isinstance(value, (dict, list)):
        return "not_text"
    return "broken_unicode" if isinstance(value, str) and _written(value) != value else None


def _written(text: str) -> str:
    """Without half surrogate pairs, which JSON lets through and no file can hold."""
    return text.encode("utf-8", "replace").decode("utf-8")


def raw_values(rows: Rows, column: Column) -> list[Any]:
    """What is asked, row by row; None where the row has nothing."""
    return (
        list(rows.originals[column.source].to_pylist())
        if column.source in rows.originals.column_names
        else [None] * len(rows.broken)
    )
