"""Bring new rows of a database into the folder of source `sql`: shards first, then the watermark, which alone says what the source is.

New rows are those from the watermark on, without the ones that were had at its very value: rows of one instant are neither lost nor doubled. A row that was
committed late, below the watermark, shows in the count of what lies there; then all rows are read and compared. A kill leaves shards that nobody names.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from components.core.errors import InputError
from components.core.files import atomic, sha256
from components.stages.ingest import table_source
from components.stages.ingest.columns import merged
from components.stages.ingest.database import Database, kind_of, opened, parsed, plain, written
from components.stages.ingest.params import Sql
from components.stages.ingest.table_source import Shard, Watermark

BATCH = 50_000  # rows of a shard, and in memory
_ANEW = "if that is right: gristmill pull --from-scratch"


@dataclass(frozen=True)
class Pulled:
    """What a pull has brought."""

    new: int
    mark: Watermark


def pull(source: Sql, root: Path, from_scratch: bool = False) -> Pulled:
    """Append what is new. The caller sees to it that nobody else does.

    Args:
        source: what to ask.
        root: of the project.
        from_scratch: take all rows in place of those that were pulled before.

    Raises:
        EnvironmentFault: the database does not answer, or the disk is full.
        InputError: table or column missing, a cursor that is empty or no cursor, other columns than before, rows that are gone or were changed.
    """
    folder = root / source.path
    asked = {"table": source.table, "query": source.query, "cursor": source.cursor}
    had = None if from_scratch else table_source.read(folder)
    if had and had.asked != asked:
        raise InputError(
            "was pulled with another table, query or cursor",
            where=source.path,
            remedy=f"set another ingest.source.path; {_ANEW}",
        )
    if had:
        table_source.units(source, root)
    standing = _still(folder) if from_scratch else had
    _sweep(folder, standing)
    try:
        with opened(source, root) as database:
            mark = _append(database, folder, had or Watermark(asked))
    except BaseException:
        _sweep(folder, standing)
        raise
    if had and mark.rows == had.rows:
        return Pulled(0, had)
    if not mark.rows:
        raise InputError(
            "holds no rows",
            where="ingest.source",
            remedy="set ingest.source.table or query to one that has",
        )
    mark.write(folder)
    _sweep(folder, mark)
    return Pulled(mark.rows - (had.rows if had else 0), mark)


def _append(database: Database, folder: Path, mark: Watermark) -> Watermark:
    """Write what is new as shards; the watermark that goes with them."""
    if count := database.count(empty=True):
        raise _refused(
            f"the cursor {database.source.cursor!r} is empty in {count:,} rows, which would never be pulled",
            "take another column, or leave those rows out by a query",
        )
    least, known = _known(database, folder, mark)
    number = 1 + max(
        (int(path.stem.rpartition("-")[2]) for path in folder.glob("rows-*.parquet")), default=0
    )
    for names, rows in database.rows(least, BATCH):
        mark = _checked(mark, database.source.cursor, names, rows)
        table = _table(names, rows)
        mark = replace(
            mark,
            columns=_same_columns(
                mark.columns, {field.name: str(field.type) for field in table.schema}
            ),
            value=written(rows[-1][names.index(database.source.cursor)]),
        )
        new = [place for place, digest in enumerate(_digests(table)) if not _take(known, digest)]
        if not new:
            continue
        path = folder / f"rows-{number:06d}.parquet"
        with atomic(path) as stream:
            pq.write_table(table.take(pa.array(new)), stream, compression="zstd")
        shard = Shard(
            path.name,
            len(new),
            sha256(path),
            written(rows[new[-1]][names.index(database.source.cursor)]),
        )
        mark, number = (
            replace(mark, rows=mark.rows + len(new), shards=(*mark.shards, shard)),
            number + 1,
        )
    if gone := known.total():
        raise _refused(
            f"{gone:,} rows that were pulled are not there as they were: they were deleted or changed",
            _ANEW,
        )
    return mark


def _known(database: Database, folder: Path, mark: Watermark) -> tuple[Any, Counter[bytes]]:
    """From where to read, and the digests of rows from there on that were had."""
    if not mark.rows:
        return None, Counter()
    least = parsed(mark.kind, mark.value)
    ties = Counter(_had(folder, mark, database.source.cursor, mark.value))
    below, had = database.count(below=least), mark.rows - ties.total()
    if below < had:
        raise _refused(
            f"{below:,} rows lie below {mark.value}, of which {had:,} were pulled: rows were deleted or changed",
            _ANEW,
        )
    return (
        (least, ties)
        if below == had
        else (None, Counter(_had(folder, mark, database.source.cursor)))
    )


def _had(folder: Path, mark: Watermark, cursor: str, value: str | None = None) -> Iterator[bytes]:
    """Digests of rows in the shards; with one value of the cursor, or all."""
    for shard in mark.shards:
        if value is None or shard.last == value:
            for batch in pq.ParquetFile(folder / shard.file).iter_batches(BATCH):
                table = pa.Table.from_batches([batch])
                same = (
                    value is None or written(each) == value for each in table[cursor].to_pylist()
                )
                yield from (
                    digest for digest, wanted in zip(_digests(table), same, strict=True) if wanted
                )


def _take(known: Counter[bytes], digest: bytes) -> bool:
    """Whether a row was had; each of several equal ones counts once."""
    if not known[digest]:
        del known[digest]  # which a look has made
        return False
    known[digest] -= 1
    return True


def _checked(
    mark: Watermark, cursor: str, names: Sequence[str], rows: Sequence[Sequence[Any]]
) -> Watermark:
    """With the kind of the cursor's values, which is one."""
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise _refused(
            f"the column {twice[0]!r} stands more than once",
            "give the columns of the query names of their own",
        )
    if cursor not in names:
        raise _refused(
            f"the columns {', '.join(names)} have no {cursor!r}",
            "set ingest.source.cursor to one of them, as the database spells it",
        )
    kinds = {kind_of(row[names.index(cursor)]) for row in rows} | (
        {mark.kind} if mark.kind else set()
    )
    if kinds - {"integer", "text", "time", "day"} or len(kinds) > 1:
        found = type(
            next(
                row[names.index(cursor)]
                for row in rows
                if kind_of(row[names.index(cursor)]) != mark.kind
            )
        ).__name__
        raise _refused(
            f"the cursor {cursor!r} holds what cannot be compared ({found}{f', before {mark.kind}' if mark.kind else ''})",
            "take a column of times, whole numbers or texts, of one kind",
        )
    return replace(mark, kind=kinds.pop())


def _same_columns(before: Mapping[str, str], now: Mapping[str, str]) -> dict[str, str]:
    """The columns and their types.

    Raises:
        InputError: others than before.
    """
    if not before:
        return dict(now)
    wrong = [f"the column {name!r} is gone" for name in before if name not in now] + [
        f"the column {name!r} is new" for name in now if name not in before
    ]
    kinds = {name: merged(kind, now[name]) for name, kind in before.items() if name in now}
    wrong += [
        f"the column {name!r} is {now[name]} and was {before[name]}"
        for name, kind in kinds.items()
        if kind is None
    ]
    if wrong:
        raise _refused(
            f"the columns have changed: {'; '.join(wrong)}", f"name the columns in a query; {_ANEW}"
        )
    return {name: kind for name, kind in kinds.items() if kind is not None}


def _table(names: Sequence[str], rows: Sequence[Sequence[Any]]) -> pa.Table:
    columns: dict[str, pa.Array] = {}
    for place, name in enumerate(names):
        try:
            columns[name] = pa.array([_value(row[place]) for row in rows])
        except (pa.ArrowException, OverflowError) as error:
            raise _refused(
                f"the column {name!r} cannot be kept: {str(error).splitlines()[0][:200]}",
                "cast it to one type in a query",
            ) from None
    return pa.table(columns)


def _value(value: Any) -> Any:
    """What Parquet holds as it is, else its text."""
    if value is None or isinstance(value, (bool, int, float, str, bytes, date)):
        return plain(value)
    if isinstance(value, (memoryview, bytearray)):
        return bytes(value)
    return (
        json.dumps(value, ensure_ascii=False, sort_keys=True)
        if isinstance(value, (dict, list))
        else str(value)
    )


def _digests(table: pa.Table) -> list[bytes]:
    """SHA-256 of each row's values, whatever the order of the columns; 7 and 7.0 are one, for a column of whole numbers may become one of others."""
    names = sorted(table.column_names)
    return [
        hashlib.sha256(
            repr([_whole(row[name]) for name in names]).encode("utf-8", "backslashreplace")
        ).digest()
        for row in table.to_pylist()
    ]


def _whole(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _still(folder: Path) -> Watermark | None:
    """What is named now, though it may be replaced; damage does not matter then."""
    with suppress(InputError):
        return table_source.read(folder)
    return None


def _sweep(folder: Path, mark: Watermark | None) -> None:
    """Remove shards that no watermark names: of a pull that was killed or refused, or of before."""
    named = {shard.file for shard in mark.shards} if mark else set()
    for path in (
        *folder.glob("rows-*.parquet"),
        *folder.glob(".rows-*.part"),
        *folder.glob(f".{table_source.WATERMARK}.*.part"),
    ):
        if path.name not in named:
            path.unlink(missing_ok=True)


def _refused(what: str, remedy: str) -> InputError:
    return InputError(what, where="ingest.source", remedy=remedy)
