"""Readers: one file format each, records out. Whatever is not a record is yielded as `Bad`, not raised."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.parquet as pq

from components.core.errors import InputError
from components.ingest.columns import Layout
from components.ingest.encodings import detect
from components.ingest.rows import Bad, Record, Unit

IMAGES = (".png", ".jpg", ".jpeg")
_WIDEST = 2**31 - 1
Found = Iterator[Record | Bad]


def tables(unit: Unit, wanted: Layout, used: set[str]) -> Found:
    """CSV or TSV with a header; the row is the line on which a record starts."""
    path, encoding = _open(unit, used)
    csv.field_size_limit(_WIDEST)  # the library stops at 128 KiB, and says so as an error
    delimiter = "\t" if unit.format == "tsv" else _delimiter(path, encoding)
    quoting: Literal[0, 3] = csv.QUOTE_MINIMAL if unit.format == "csv" or _is_quoted(path, encoding) else csv.QUOTE_NONE
    with path.open(newline="", encoding=encoding) as stream:
        lines = csv.reader(stream, delimiter=delimiter, quoting=quoting, strict=True)
        try:
            header = list(unit.column_names) or [name.strip() for name in next(lines, [])]
        except csv.Error as error:
            raise InputError(f"has no readable header: {error}", where=f"{unit.name}:1", remedy="name the columns in the first line, or set ingest.source.format") from None
        wanted.check(header, unit.name)
        while True:
            line = lines.line_num + 1
            try:
                values = next(lines)
            except StopIteration:
                return
            except csv.Error as error:
                if "end of data" in str(error):
                    raise InputError("opens a quote that nothing closes", where=f"{unit.name}:{line}", remedy="close it, or double the quotes inside a quoted text") from None
                yield Bad(line, "bad_quoting", str(error))
                continue
            if len(values) == len(header):
                yield Record(line, dict(zip(header, values, strict=True)))
            elif values:
                yield Bad(line, "wrong_number_of_fields", f"{len(values)} for {len(header)} columns: {delimiter.join(values)[:150]}")


def header(unit: Unit) -> list[str]:
    """The names in the first line of a CSV or TSV."""
    path, encoding = _open(unit, set())
    with path.open(newline="", encoding=encoding) as stream:
        return [name.strip() for name in next(csv.reader(stream, delimiter="\t" if unit.format == "tsv" else _delimiter(path, encoding)), [])]


def _delimiter(path: Path, encoding: str) -> str:
    with path.open(encoding=encoding) as stream:
        header = stream.readline(10_000)
    return max(",;\t|", key=header.count)


def _is_quoted(path: Path, encoding: str) -> bool:
    """Whether the quotes of a TSV are quotes: many are written without any, and theirs belong to the text."""
    with path.open(newline="", encoding=encoding) as stream:
        try:
            for _ in csv.reader(stream, delimiter="\t", strict=True):
                pass
        except csv.Error:
            return False
    return True


def objects(unit: Unit, wanted: Layout, used: set[str]) -> Found:
    """JSON objects, one a line; keys may differ from line to line."""
    path, encoding = _open(unit, used)
    seen: dict[str, None] = {}
    with path.open(newline="\n", encoding=encoding) as stream:
        for line, text in enumerate(stream, 1):
            if not text.strip():
                continue
            try:
                value = json.loads(text)
            except (ValueError, RecursionError) as error:
                yield Bad(line, "malformed_json", f"{error}: {text[:150].strip()}")
                continue
            if isinstance(value, dict):
                seen.update(dict.fromkeys(value))
                yield Record(line, value)
            else:
                yield Bad(line, "not_an_object", text[:150].strip())
    if seen:
        wanted.check(seen, unit.name)


def parquet(unit: Unit, wanted: Layout, used: set[str]) -> Found:  # noqa: ARG001
    """Parquet, in batches; the row counts from 1."""
    try:
        with pq.ParquetFile(unit.paths[0]) as file:
            names = file.schema_arrow.names
            wanted.check(names, unit.name)
            columns = [column.source for column in wanted.columns if column.source in names]
            row = 0
            for batch in file.iter_batches(batch_size=4096, columns=columns or None):
                for values in batch.to_pylist():
                    row += 1
                    yield Record(row, values)
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"is not readable Parquet: {error}", where=unit.name, remedy="set ingest.source.format, or write the file again") from None


def lines(unit: Unit, wanted: Layout, used: set[str]) -> Found:
    """Text of one class, a row a line."""
    path, encoding = _open(unit, used)
    if wanted.input.type != pa.string():
        raise InputError(f"holds text, but the task's input is {wanted.input.name!r}", where=unit.name, remedy="set ingest.source, or take another task")
    with path.open(newline="\n", encoding=encoding) as stream:
        for line, text in enumerate(stream, 1):
            yield Record(line, wanted.values(text.rstrip("\r\n"), unit.label))


def folder(unit: Unit, wanted: Layout, used: set[str]) -> Found:
    """Files of one class, a row a file; the row is the file's place by name."""
    text = wanted.input.type == pa.string()
    for row, path in enumerate(unit.paths, 1):
        size = path.stat().st_size
        if unit.label is None:
            yield Bad(row, "in_no_class_folder", path.name)
        elif (path.suffix.lower() in IMAGES) == text:
            yield Bad(row, "not_text" if text else "not_an_image", path.name)
        elif size > wanted.limit:
            yield Bad(row, "too_large", f"{path.name}: {size} bytes")
        elif not text:
            yield Record(row, wanted.values(path.read_bytes(), unit.label))
        else:
            try:
                encoding = detect(path, unit.encoding, path.name)
            except InputError as error:
                yield Bad(row, "undecodable", str(error))
                continue
            used.add(encoding)
            yield Record(row, wanted.values(path.read_text(encoding=encoding), unit.label))


def _open(unit: Unit, used: set[str]) -> tuple[Path, str]:
    path = unit.paths[0]
    if path.stat().st_size == 0:
        raise InputError("is empty", where=unit.name, remedy="put rows into it, or set ingest.source.path to another file")
    encoding = detect(path, unit.encoding, unit.name)
    used.add(encoding)
    return path, encoding


Reader = Callable[[Unit, Layout, set[str]], Found]
