"""Readers, one for each file format. They yield records, and `Bad` for what is no record."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from components.core.errors import InputError
from components.stages.ingest.arrow_files import arrow_file
from components.stages.ingest.columns import Layout
from components.stages.ingest.compressed import inner_name, is_compressed, open_text, read_bytes
from components.stages.ingest.dialects import (
    FASTTEXT_MARK,
    Dialect,
    clean_lines,
    dialect_of,
    fitted,
    is_title,
)
from components.stages.ingest.encodings import detect
from components.stages.ingest.json_records import objects as objects
from components.stages.ingest.paths import with_paths
from components.stages.ingest.source_rows import Bad, Record, Unit
from components.stages.ingest.workbooks import padded, sheet_rows

IMAGES = (".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".gif", ".tif", ".tiff", ".webp")
HEIC = (".heic", ".heif")
# Rows that are converted at once.
_BATCH_ROWS = 4096
# What Git keeps in place of a large file that was not fetched.
_LFS = b"version https://git-lfs."
_LFS_BYTES = 300
Found = Iterator[Record | Bad]


def tables(unit: Unit, wanted: Layout, used: set[str]) -> Found:
    """Yield the records of a CSV or TSV; the row is the line on which a record starts.

    Args:
        unit: the table.
        wanted: the columns of the raw table.
        used: the encodings, to which that of the file is added.

    Raises:
        InputError: the file is empty, has none of the columns, or opens a quote that nothing
            closes.
    """
    _check_not_empty(unit)
    dialect = unit.dialect or dialect_of(unit, wanted)
    used.add(dialect.encoding)
    check_columns(dialect.header, dialect.names, wanted, unit)
    with open_text(unit.paths[0], dialect.encoding, unit.name, newline="") as stream:
        lines = clean_lines(stream, escaped=dialect.escaped)
        for number, line in enumerate(islice(lines, dialect.skip), 1):
            if is_title(line):
                yield Bad(number, "above_the_table", line.strip()[:150])
        yield from _fitted_records(
            _numbered(lines, dialect, unit), dialect.names, dialect.header, dialect.delimiter
        )


def _numbered(
    lines: Iterator[str], dialect: Dialect, unit: Unit
) -> Iterator[tuple[int, list[str]] | Bad]:
    """Yield the fields of each record with the line on which it starts.

    Args:
        lines: of the table, without those before the first record.
        dialect: how the table is written.
        unit: the table.

    Raises:
        InputError: a quote is opened that nothing closes.
    """
    quoting: Literal[0, 3] = csv.QUOTE_MINIMAL if dialect.quoted else csv.QUOTE_NONE
    records = csv.reader(lines, delimiter=dialect.delimiter, quoting=quoting, strict=True)
    while True:
        line = dialect.skip + records.line_num + 1
        try:
            values = next(records)
        except StopIteration:
            return
        except csv.Error as error:
            if "end of data" in str(error):
                raise InputError(
                    "opens a quote that nothing closes",
                    where=f"{unit.name}:{line}",
                    remedy="close it, or double the quotes inside a quoted text",
                ) from None
            yield Bad(line, "bad_quoting", str(error))
            continue
        yield line, values


def _fitted_records(
    records: Iterable[tuple[int, Sequence[Any]] | Bad],
    names: Sequence[str],
    header: bool,
    delimiter: str,
) -> Found:
    """Yield records by the names of the columns.

    A header that is repeated inside, as in concatenated files, is refused.

    Args:
        records: line and fields of each record.
        names: of the columns.
        header: whether the first record is the header.
        delimiter: between the fields of a refused record in its excerpt.
    """
    first = header
    for record in records:
        if isinstance(record, Bad):
            first = False
            yield record
            continue
        line, values = record
        if first:
            first = False
            continue
        row = fitted(values, len(names))
        if len(row) != len(names):
            if values:
                yield _wrong_number(line, values, len(names), delimiter)
        elif header and len(names) > 1 and [str(value).strip() for value in row] == list(names):
            yield Bad(line, "repeated_header", delimiter.join(names))
        else:
            yield Record(line, dict(zip(names, row, strict=True)))


def _wrong_number(
    line: int,
    values: Sequence[Any],
    columns: int,
    delimiter: str,
) -> Bad:
    """Return the refusal of a record that has more or fewer fields than there are columns."""
    shown = delimiter.join(map(str, values))[:150]
    excerpt = f"{len(values)} for {columns} columns: {shown}"
    return Bad(line, "wrong_number_of_fields", excerpt)


def check_columns(
    header: bool,
    names: Sequence[str],
    wanted: Layout,
    unit: Unit,
) -> None:
    """Compare a table's columns with those wanted.

    Args:
        header: whether the first line names the columns.
        names: of the columns.
        wanted: the columns of the raw table.
        unit: the table.

    Raises:
        InputError: one is absent; where the first line is no header, the remedy names the columns.
    """
    try:
        wanted.check(names, unit.name)
    except InputError as error:
        if header or unit.column_names:
            raise
        raise InputError(
            f"{error.what}; its first line looks like a row, not like a header",
            where=unit.name,
            remedy=f"set ingest.source.column_names to the names of its {len(names)} columns, "
            "or ingest.source.header: true",
        ) from None


def header(unit: Unit) -> list[str]:
    """Return the names of the columns of a CSV or TSV.

    Args:
        unit: the table.

    Raises:
        InputError: the file is empty.
    """
    _check_not_empty(unit)
    return list(dialect_of(unit).names)


def workbook(unit: Unit, wanted: Layout, used: set[str]) -> Found:  # noqa: ARG001
    """Yield the records of a sheet of an Excel workbook; the row is that of the sheet.

    Args:
        unit: the workbook.
        wanted: the columns of the raw table.
        used: not used, because a workbook has no encoding.

    Raises:
        InputError: the sheet has none of the columns.
    """
    sheet = sheet_rows(unit, wanted)
    names = sheet.names
    check_columns(sheet.header, names, wanted, unit)
    for line, row in sheet.titles:
        yield Bad(line, "above_the_table", " ".join(str(cell) for cell in row if cell)[:150])
    rows = ((line, padded(row, len(names))) for line, row in sheet.rows)
    yield from _fitted_records(rows, names, sheet.header, " | ")


def parquet(unit: Unit, wanted: Layout, used: set[str]) -> Found:  # noqa: ARG001
    """Yield the records of Parquet, read in batches; the row counts from 1.

    Args:
        unit: the file.
        wanted: the columns of the raw table.
        used: not used, because Parquet has no encoding.

    Raises:
        InputError: the file cannot be read, or has none of the columns.
    """
    path = unit.paths[0]
    try:
        content: Any = path
        if is_compressed(path):
            content = pa.BufferReader(read_bytes(path, unit.name))
        with pq.ParquetFile(content) as file:
            names = file.schema_arrow.names
            wanted.check(_with_nested(names, wanted), unit.name)
            columns = [name for name in names if _is_read(name, wanted)]
            batches = file.iter_batches(batch_size=_BATCH_ROWS, columns=columns or None)
            yield from _batch_records(batches, wanted)
    except (pa.ArrowException, OSError) as error:
        raise InputError(
            f"is not readable Parquet: {error}",
            where=unit.name,
            remedy="set ingest.source.format, or write the file again",
        ) from None


def arrow(unit: Unit, wanted: Layout, used: set[str]) -> Found:  # noqa: ARG001
    """Yield the records of an Arrow file, a batch at a time; the row counts from 1.

    Args:
        unit: the file.
        wanted: the columns of the raw table.
        used: not used, because Arrow has no encoding.

    Raises:
        InputError: the file cannot be read, or has none of the columns.
    """
    with arrow_file(unit.paths[0], unit.name) as file:
        names = file.schema.names
        wanted.check(_with_nested(names, wanted), unit.name)
        columns = [name for name in names if _is_read(name, wanted)]
        batches = (batch.select(columns or names) for batch in file.batches())
        yield from _batch_records(_checked_batches(batches), wanted)


def _checked_batches(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Yield batches in slices; pyarrow does not check what it reads from Arrow files."""
    for batch in batches:
        batch.validate(full=True)
        for start in range(0, batch.num_rows, _BATCH_ROWS):
            yield batch.slice(start, _BATCH_ROWS)


def _batch_records(batches: Iterable[pa.RecordBatch], wanted: Layout) -> Iterator[Record]:
    """Yield the records of batches; the row counts from 1."""
    row = 0
    for batch in batches:
        for values in batch.to_pylist():
            row += 1
            yield Record(row, with_paths(values, wanted))


def _with_nested(names: Sequence[str], wanted: Layout) -> list[str]:
    """Return the columns of a file, with the paths that lead into one of them."""
    with_nested = list(names)
    for column in wanted.columns:
        path = column.source
        if path not in names and any(_reads(path, name) for name in names):
            with_nested.append(path)
    return with_nested


def _is_read(name: str, wanted: Layout) -> bool:
    """Return whether any column of the layout needs a column of the file."""
    return any(_reads(column.source, name) for column in wanted.columns)


def _reads(source: str, name: str) -> bool:
    """Return whether a column of the layout is a column of the file, or lies inside it."""
    return source == name or source.startswith((f"{name}.", f"{name}["))


def lines(unit: Unit, wanted: Layout, used: set[str]) -> Found:
    """Yield the lines of a text of one value of the target.

    Args:
        unit: the file, with this value.
        wanted: the columns of the raw table.
        used: the encodings, to which that of the file is added.

    Raises:
        InputError: the file is empty or cannot be decoded, or the input of the task is no text.
    """
    path, encoding = _open(unit, used)
    _check_texts(unit, wanted)
    with open_text(path, encoding, unit.name, newline="\n") as stream:
        for line, text in enumerate(clean_lines(stream), 1):
            yield Record(line, wanted.values(text.rstrip("\r\n"), unit.target_value))


def fasttext(unit: Unit, wanted: Layout, used: set[str]) -> Found:
    """Yield the lines of fastText: values of the target with a mark, and a text.

    Several values before a text are several values of a row.

    Args:
        unit: the file.
        wanted: the columns of the raw table.
        used: the encodings, to which that of the file is added.

    Raises:
        InputError: the file is empty or cannot be decoded, or the input of the task is no text.
    """
    path, encoding = _open(unit, used)
    _check_texts(unit, wanted)
    with open_text(path, encoding, unit.name, newline="\n") as stream:
        for line, text in enumerate(clean_lines(stream), 1):
            if not text.strip():
                continue
            targets, rest = _fasttext_targets(text)
            yield Record(line, wanted.values(rest, targets))


def _fasttext_targets(text: str) -> tuple[list[str], str]:
    """Return the marked words of a line of fastText, before or after the text, and the text.

    Args:
        text: one line.
    """
    words = text.split()
    start = 0
    stop = len(words)
    while start < stop and words[start].startswith(FASTTEXT_MARK):
        start += 1
    while stop > start and words[stop - 1].startswith(FASTTEXT_MARK):
        stop -= 1
    marked = (*words[:start], *words[stop:])
    targets = [word.removeprefix(FASTTEXT_MARK).strip(",") for word in marked]
    return [target for target in targets if target], " ".join(words[start:stop])


def _check_texts(unit: Unit, wanted: Layout) -> None:
    """Check that the task's input is text.

    Raises:
        InputError: it is not.
    """
    if wanted.input.type != pa.string():
        raise InputError(
            f"holds text, but the task's input is {wanted.input.name!r}",
            where=unit.name,
            remedy="set ingest.source, or take another task",
        )


def folder(unit: Unit, wanted: Layout, used: set[str]) -> Found:
    """Yield the files of one value of the target, or with a value in each name.

    The row is the position of the file by name.

    Args:
        unit: the files, with their value or values.
        wanted: the columns of the raw table.
        used: the encodings, to which those of the files are added.
    """
    text = wanted.input.type == pa.string()
    for row, path in enumerate(unit.paths, 1):
        size = path.stat().st_size
        target = unit.file_targets[row - 1] if unit.file_targets else unit.target_value
        if target is None and not unit.unlabelled:
            yield Bad(row, unit.outside, path.name, path.name)
        elif size < _LFS_BYTES and path.read_bytes().startswith(_LFS):
            yield Bad(row, "git_lfs_pointer", f"{path.name}: git lfs pull fetches it", path.name)
        elif (inner_name(path).suffix.lower() in IMAGES) == text:
            yield _refused_file(row, path, text=text)
        elif size > wanted.limit:
            yield Bad(row, "too_large", f"{path.name}: {size} bytes", path.name)
        elif not text:
            yield Record(row, wanted.values(path.read_bytes(), target), path.name)
        else:
            yield from _text_file(row, path, replace(unit, target_value=target), wanted, used)


def _refused_file(row: int, path: Path, *, text: bool) -> Bad:
    """Return the refusal of a file that is not of the kind that the task reads."""
    if text:
        return Bad(row, "picture_for_a_text", path.name, path.name)
    if path.suffix.lower() in HEIC:
        return Bad(row, "heic", f"{path.name}: HEIC is not read; convert it to JPEG", path.name)
    return Bad(row, "not_an_image", path.name, path.name)


def _text_file(
    row: int,
    path: Path,
    unit: Unit,
    wanted: Layout,
    used: set[str],
) -> Found:
    """Yield the records of a text file, or its refusal where it cannot be decoded."""
    try:
        encoding = detect(path, unit.encoding, path.name)
        with open_text(path, encoding, path.name) as stream:
            content = stream.read().lstrip("\ufeff")
    except InputError as error:
        yield Bad(row, "undecodable", str(error), path.name)
        return
    used.add(encoding)
    if not unit.first_line:
        yield Record(row, wanted.values(content, unit.target_value), path.name)
        return
    lines = [line.strip() for line in content.split("\n")]
    first, *others = [line for line in lines if line] or [""]
    values = wanted.values(first, unit.target_value)
    if not unit.other_lines:
        yield Record(row, values, path.name)
        return
    group = {"group": f"{unit.name}/{path.name}"}
    yield Record(row, {**values, **group}, path.name)
    for number, line in enumerate(others, 2):
        values = wanted.values(line, None)
        identity = {"id": f"{unit.name}/{path.name}:{number}"}
        yield Record(row, {**values, **group, **identity}, path.name)


def _check_not_empty(unit: Unit) -> None:
    """Check that a file has content.

    Raises:
        InputError: it has none.
    """
    if unit.paths[0].stat().st_size == 0:
        raise InputError(
            "is empty",
            where=unit.name,
            remedy="put rows into it, or set ingest.source.path to another file",
        )


def _open(unit: Unit, used: set[str]) -> tuple[Path, str]:
    """Return the path of a text file and its encoding, which is added to `used`.

    Raises:
        InputError: it is empty, or cannot be decoded.
    """
    path = unit.paths[0]
    _check_not_empty(unit)
    encoding = detect(path, unit.encoding, unit.name)
    used.add(encoding)
    return path, encoding


Reader = Callable[[Unit, Layout, set[str]], Found]
