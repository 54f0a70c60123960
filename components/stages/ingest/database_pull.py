"""Write new rows of a database into the folder of source `sql`.

Shards are written first, then the watermark. Only shards that the watermark names belong to the
source, so a pull that is killed leaves files that the next one removes.

New rows are those from the watermark on, without the rows of its value that were pulled before. So
rows with the same value of the cursor are neither lost nor doubled. The count of rows below the
watermark shows a row that was committed late. Then all rows are read and compared.
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
from components.stages.ingest import sql_source
from components.stages.ingest.columns import merged
from components.stages.ingest.database import Database, kind_of, opened, parsed, plain, written
from components.stages.ingest.params import Sql
from components.stages.ingest.sql_source import Shard, Watermark

# Rows of a shard, and in memory.
BATCH = 50_000
_ANEW = "if that is right: gristmill pull --from-scratch"
_COMPARABLE = {"integer", "text", "time", "day"}


@dataclass(frozen=True)
class Pulled:
    """Result of a pull.

    Args:
        new: number of rows that were added.
        mark: the watermark afterwards.
    """

    new: int
    mark: Watermark


def pull(source: Sql, root: Path, from_scratch: bool = False) -> Pulled:
    """Append the new rows of a database. The caller makes sure that no other pull runs.

    Args:
        source: the database, and what is asked of it.
        root: of the project.
        from_scratch: take all rows in place of those that were pulled before.

    Raises:
        EnvironmentFault: the database does not answer, or the disk is full.
        InputError: table or column missing, a cursor that is empty or no cursor, other columns than
            before, rows that are gone or were changed.
    """
    folder = root / source.path
    asked = {"table": source.table, "query": source.query, "cursor": source.cursor}
    previous = None if from_scratch else sql_source.read(folder)
    if previous and previous.asked != asked:
        raise InputError(
            "was pulled with another table, query or cursor",
            where=source.path,
            remedy=f"set another ingest.source.path; {_ANEW}",
        )
    if previous:
        sql_source.units(source, root)
    current = _current(folder) if from_scratch else previous
    _sweep(folder, current)
    try:
        with opened(source, root) as database:
            mark = _append(database, folder, previous or Watermark(asked))
    except BaseException:
        _sweep(folder, current)
        raise
    previous_rows = previous.rows if previous else 0
    if previous and mark.rows == previous_rows:
        return Pulled(0, previous)
    if not mark.rows:
        raise InputError(
            "holds no rows",
            where="ingest.source",
            remedy="set ingest.source.table or query to one that has",
        )
    mark.write(folder)
    _sweep(folder, mark)
    return Pulled(mark.rows - previous_rows, mark)


def _append(database: Database, folder: Path, mark: Watermark) -> Watermark:
    """Write new rows as shards, and return the watermark that goes with them.

    Raises:
        InputError: the cursor is empty in a row, or rows are gone or were changed.
    """
    cursor = database.source.cursor
    count = database.count(empty=True)
    if count:
        raise _refused(
            f"the cursor {cursor!r} is empty in {count:,} rows, which would never be pulled",
            "take another column, or leave those rows out by a query",
        )
    least, pulled = _pulled(database, folder, mark)
    number = _next_number(folder)
    for names, rows in database.rows(least, BATCH):
        mark = _checked(mark, cursor, names, rows)
        table = _table(names, rows)
        types = {field.name: str(field.type) for field in table.schema}
        cursor_position = names.index(cursor)
        mark = replace(
            mark,
            columns=_same_columns(mark.columns, types),
            value=written(rows[-1][cursor_position]),
        )
        digests = _digests(table)
        new = [row for row, digest in enumerate(digests) if not _discard(pulled, digest)]
        if not new:
            continue
        last = written(rows[new[-1]][cursor_position])
        shard = _write_shard(folder / f"rows-{number:06d}.parquet", table, new, last)
        mark = replace(mark, rows=mark.rows + len(new), shards=(*mark.shards, shard))
        number += 1
    gone = pulled.total()
    if gone:
        raise _refused(
            f"{gone:,} rows that were pulled are not there as they were: "
            "they were deleted or changed",
            _ANEW,
        )
    return mark


def _next_number(folder: Path) -> int:
    """Return the number of the next shard; the first is 1."""
    numbers = [int(path.stem.rpartition("-")[2]) for path in folder.glob("rows-*.parquet")]
    return 1 + max(numbers, default=0)


def _write_shard(
    path: Path,
    table: pa.Table,
    rows: Sequence[int],
    last: str,
) -> Shard:
    """Write rows of a table as a shard.

    Args:
        path: of the shard.
        table: the table.
        rows: positions of the rows.
        last: value of the cursor in the last of them, as text.
    """
    with atomic(path) as stream:
        pq.write_table(table.take(pa.array(rows)), stream, compression="zstd")
    return Shard(path.name, len(rows), sha256(path), last)


def _pulled(database: Database, folder: Path, mark: Watermark) -> tuple[Any, Counter[bytes]]:
    """Return where to read from, and the digests of pulled rows from there on.

    Raises:
        InputError: rows below the watermark are gone.
    """
    if not mark.rows:
        return None, Counter()
    cursor = database.source.cursor
    least = parsed(mark.kind, mark.value)
    ties = Counter(_shard_digests(folder, mark, cursor, mark.value))
    below = database.count(below=least)
    expected = mark.rows - ties.total()
    if below < expected:
        raise _refused(
            f"{below:,} rows lie below {mark.value}, of which {expected:,} were pulled: "
            "rows were deleted or changed",
            _ANEW,
        )
    if below == expected:
        return least, ties
    # A row was committed late, below the watermark: all rows are compared.
    return None, Counter(_shard_digests(folder, mark, cursor))


def _shard_digests(
    folder: Path, mark: Watermark, cursor: str, value: str | None = None
) -> Iterator[bytes]:
    """Yield the digests of rows in the shards.

    Args:
        folder: of the shards.
        mark: the watermark that names them.
        cursor: column of the cursor.
        value: only rows with this value of the cursor; None: all.
    """
    for shard in mark.shards:
        if value is not None and shard.last != value:
            continue
        for batch in pq.ParquetFile(folder / shard.file).iter_batches(BATCH):
            table = pa.Table.from_batches([batch])
            values = table[cursor].to_pylist()
            for row_value, digest in zip(values, _digests(table), strict=True):
                if value is None or written(row_value) == value:
                    yield digest


def _discard(pulled: Counter[bytes], digest: bytes) -> bool:
    """Return whether a row was pulled, and remove it once from the rows that were."""
    if not pulled[digest]:
        # Reading a Counter adds no key, but a count of zero may be left.
        del pulled[digest]
        return False
    pulled[digest] -= 1
    return True


def _checked(
    mark: Watermark, cursor: str, names: Sequence[str], rows: Sequence[Sequence[Any]]
) -> Watermark:
    """Return the watermark with the kind of the cursor's values, which is one.

    Args:
        mark: the watermark.
        cursor: column of the cursor.
        names: of the columns.
        rows: a batch.

    Raises:
        InputError: a column comes twice, the cursor is absent, or its values cannot be compared.
    """
    repeated = [name for name, count in Counter(names).items() if count > 1]
    if repeated:
        raise _refused(
            f"the column {repeated[0]!r} stands more than once",
            "give the columns of the query names of their own",
        )
    if cursor not in names:
        raise _refused(
            f"the columns {', '.join(names)} have no {cursor!r}",
            "set ingest.source.cursor to one of them, as the database spells it",
        )
    position = names.index(cursor)
    values = [row[position] for row in rows]
    kinds = {kind_of(value) for value in values}
    if mark.kind:
        kinds.add(mark.kind)
    if kinds - _COMPARABLE or len(kinds) > 1:
        wrong = next(
            value
            for value in values
            if kind_of(value) != mark.kind or kind_of(value) not in _COMPARABLE
        )
        description = type(wrong).__name__
        if mark.kind:
            description += f", before {mark.kind}"
        raise _refused(
            f"the cursor {cursor!r} holds what cannot be compared ({description})",
            "take a column of times, whole numbers or texts, of one kind",
        )
    return replace(mark, kind=kinds.pop())


def _same_columns(before: Mapping[str, str], now: Mapping[str, str]) -> dict[str, str]:
    """Return the columns and their types.

    Args:
        before: column -> type of the rows that were pulled; empty before the first pull.
        now: column -> type of a batch.

    Raises:
        InputError: others than before.
    """
    if not before:
        return dict(now)
    wrong = [f"the column {name!r} is gone" for name in before if name not in now]
    wrong += [f"the column {name!r} is new" for name in now if name not in before]
    kinds: dict[str, str] = {}
    for name, kind in before.items():
        if name not in now:
            continue
        both = merged(kind, now[name])
        if both is None:
            wrong.append(f"the column {name!r} is {now[name]} and was {before[name]}")
        else:
            kinds[name] = both
    if wrong:
        raise _refused(
            f"the columns have changed: {'; '.join(wrong)}", f"name the columns in a query; {_ANEW}"
        )
    return kinds


def _table(names: Sequence[str], rows: Sequence[Sequence[Any]]) -> pa.Table:
    """Return a batch as a table.

    Raises:
        InputError: the values of a column have several types.
    """
    columns: dict[str, pa.Array] = {}
    for position, name in enumerate(names):
        try:
            columns[name] = pa.array([_value(row[position]) for row in rows])
        except (pa.ArrowException, OverflowError) as error:
            reason = str(error).splitlines()[0][:200]
            raise _refused(
                f"the column {name!r} cannot be kept: {reason}",
                "cast it to one type in a query",
            ) from None
    return pa.table(columns)


def _value(value: Any) -> Any:
    """Return a value of a database as Parquet can hold it: others become text."""
    if value is None or isinstance(value, (bool, int, float, str, bytes, date)):
        return plain(value)
    if isinstance(value, (memoryview, bytearray)):
        return bytes(value)
    if isinstance(value, (dict, list)):
        return json.dumps(value, ensure_ascii=False, sort_keys=True)
    return str(value)


def _digests(table: pa.Table) -> list[bytes]:
    """Return the SHA-256 of each row's values.

    The order of the columns does not matter. 7 and 7.0 are equal, for a column of whole numbers may
    become one of floats.
    """
    names = sorted(table.column_names)
    digests = []
    for row in table.to_pylist():
        values = repr([_whole(row[name]) for name in names])
        digests.append(hashlib.sha256(values.encode("utf-8", "backslashreplace")).digest())
    return digests


def _whole(value: Any) -> Any:
    """Return a float without a fraction as an int, and other values unchanged."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _current(folder: Path) -> Watermark | None:
    """Return the watermark of a folder, which may be replaced; None if it is damaged."""
    with suppress(InputError):
        return sql_source.read(folder)
    return None


def _sweep(folder: Path, mark: Watermark | None) -> None:
    """Remove shards that no watermark names: they are left by a pull that did not end well."""
    named = {shard.file for shard in mark.shards} if mark else set()
    for pattern in ("rows-*.parquet", ".rows-*.part", f".{sql_source.WATERMARK}.*.part"):
        for path in list(folder.glob(pattern)):
            if path.name not in named:
                path.unlink(missing_ok=True)


def _refused(message: str, remedy: str) -> InputError:
    """Return the error for a database that cannot be pulled."""
    return InputError(message, where="ingest.source", remedy=remedy)
