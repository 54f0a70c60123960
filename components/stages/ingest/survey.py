"""A quick look at a source, without reading it into a table: is there anything new, and is it still what it was?"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Collection, Mapping, MutableMapping
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from components.core.errors import InputError
from components.core.files import sha256, to_json
from components.stages.ingest import (
    formats,
    package_source,
    sklearn_source,
    source_files,
    table_source,
)
from components.stages.ingest.columns import Layout, merged
from components.stages.ingest.compressed import inner_name, is_compressed, open_bytes, read_bytes
from components.stages.ingest.json_records import keys, objects
from components.stages.ingest.params import Files, IngestParams, Package, Sql
from components.stages.ingest.source_rows import Unit
from components.stages.ingest.workbooks import sheet_rows

_CHUNK = 1 << 20
_WITHOUT_LINES = (".json", ".xlsx", ".xlsm")
_OBJECTS = 1000  # of JSON lines, whose keys are taken for the columns
_SETTLED_NS = 2_000_000_000  # a file that was written a moment ago may be written again within the same tick of its clock
Known = MutableMapping[str, list[int | str]]  # path -> size, mtime_ns, SHA-256, lines


@dataclass(frozen=True)
class Survey:
    """What a source is at one moment."""

    files: Mapping[str, list[str]]  # of the source: name -> label and hashes
    feedback: Mapping[str, list[str]]  # that was accepted, which DVC does not see
    rows: int  # lines, rows of Parquet, files of class folders: comparable only with the same source's
    columns: Mapping[str, str]  # name -> type, of tables
    bytes: int
    cursor: str = ""  # the greatest that was pulled of a database

    @property
    def digest(self) -> str:
        """Another for another byte anywhere."""
        return _digest({**self.files, **self.feedback})

    @property
    def pin(self) -> str:
        """A digest of the feedback alone; "" where there is none."""
        return _digest(self.feedback) if self.feedback else ""

    def only(self, names: Collection[str]) -> Survey:
        """Without the feedback that lies in other files."""
        return replace(
            self, feedback={name: told for name, told in self.feedback.items() if name in names}
        )


def survey(params: IngestParams, root: Path, known: Known) -> Survey:
    """Look at the source.

    Args:
        params: the section.
        root: of the project.
        known: hashes of files as they were seen last; brought up to date.

    Raises:
        InputError: it is away, or cannot be read.
    """
    found = _units(params, root)
    seen: dict[str, list[str]] = {}
    rows, size, columns = 0, 0, dict[str, str]()
    for unit in found:
        facts = [_file(path, known) for path in unit.paths]
        seen[unit.name] = (
            [unit.label or "", *(str(fact[2]) for fact in facts)]
            if facts
            else [metadata.version("scikit-learn")]
        )
        size += sum(int(fact[0]) for fact in facts)
        rows += (
            len(facts)
            if unit.format == "folders"
            else _rows(unit, int(facts[0][3]))
            if facts
            else 1
        )
        columns |= {
            name: merged(columns.get(name, kind), kind) or kind
            for name, kind in _columns(unit).items()
        }
    told = (
        {
            unit.name: [str(_file(unit.paths[0], known)[2])]
            for unit in source_files.feedback(params.feedback, root)
        }
        if params.feedback
        else {}
    )
    mark = table_source.read(root / params.source.path) if isinstance(params.source, Sql) else None
    return Survey(seen, told, rows, columns, size, mark.value if mark else "")


def _units(params: IngestParams, root: Path) -> list[Unit]:
    source = params.source
    if isinstance(source, (Files, Sql)):
        return (
            source_files.units(source, root)
            if isinstance(source, Files)
            else table_source.units(source, root)
        )
    return (
        package_source.units(source, root)
        if isinstance(source, Package)
        else sklearn_source.units(source, root)
    )


def _digest(seen: Mapping[str, list[str]]) -> str:
    return hashlib.sha256(to_json(seen).encode()).hexdigest()


def changes(
    before_rows: int,
    before_columns: Mapping[str, str],
    rows: int,
    columns: Mapping[str, str],
    least: float,
) -> list[str]:
    """What is wrong with a source against what it was: fewer rows than a share of them, columns that are gone, empty now or of another type."""
    found = (
        [f"{rows:,} rows where there were {before_rows:,}, less than {least:.0%}"]
        if rows < least * before_rows
        else []
    )
    found += [f"the column {name!r} is gone" for name in before_columns if name not in columns]
    both = {
        name: (kind, columns[name])
        for name, kind in before_columns.items()
        if columns.get(name, kind) != kind
    }
    return found + [
        f"the column {name!r} is {now} and was {kind}"
        for name, (kind, now) in both.items()
        if now == "null" or merged(kind, now) is None
    ]


def read_known(path: Path) -> Known:
    """Hashes of files from an earlier look; none where there was no such look."""
    with suppress(OSError, ValueError):
        known: Known = json.loads(path.read_text(encoding="utf-8"))
        return known
    return {}


def _file(path: Path, known: Known) -> list[int | str]:
    try:
        told = path.stat()
        before = known.get(str(path))
        if before and before[:2] == [told.st_size, told.st_mtime_ns]:
            return before
        fact: list[int | str] = [told.st_size, told.st_mtime_ns, *_read(path)]
    except OSError as error:
        raise InputError(
            f"cannot be read: {error.strerror}",
            where=str(path),
            remedy="bring it back, or set ingest.source to what there is",
        ) from None
    if time.time_ns() - told.st_mtime_ns > _SETTLED_NS:
        known[str(path)] = fact
    return fact


def _read(path: Path) -> tuple[str, int]:
    """SHA-256 and lines, in one reading; of what has no lines, records."""
    if is_compressed(path) or inner_name(path).suffix.lower() in _WITHOUT_LINES:
        return sha256(path), _records(path)
    whole, lines, last = hashlib.sha256(), 0, b"\n"
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            whole.update(chunk)
            lines += chunk.count(b"\n")
            last = chunk[-1:]
    return whole.hexdigest(), lines + (last != b"\n")


def _records(path: Path) -> int:
    """Return how many records a file has; a compressed one, how many lines."""
    unit = Unit(path.name, (path,), "json")
    kind = inner_name(path).suffix.lower()
    if kind == ".json":
        return sum(1 for _ in objects(unit, Layout([], 1), set()))
    if kind in (".xlsx", ".xlsm"):
        return sum(1 for _ in sheet_rows(unit, Layout([], 1)).rows)
    with open_bytes(path, path.name) as stream:
        return sum(chunk.count(b"\n") for chunk in iter(lambda: stream.read(_CHUNK), b""))


def _rows(unit: Unit, lines: int) -> int:
    if unit.format == "parquet":
        return int(_parquet(unit).num_rows)
    return max(0, lines - (unit.format in ("csv", "tsv", "xlsx")))


def _columns(unit: Unit) -> dict[str, str]:
    if unit.format == "parquet":
        schema = _parquet(unit).schema.to_arrow_schema()
        return {field.name: str(field.type) for field in schema}
    if unit.format in ("csv", "tsv"):
        return dict.fromkeys(formats.header(unit), "text")
    if unit.format == "xlsx":
        return dict.fromkeys(sheet_rows(unit, Layout([], 1)).names, "text")
    return dict.fromkeys(keys(unit, _OBJECTS), "any") if unit.format in ("jsonl", "json") else {}


def _parquet(unit: Unit) -> pq.FileMetaData:
    try:
        path = unit.paths[0]
        with pq.ParquetFile(
            pa.BufferReader(read_bytes(path, unit.name)) if is_compressed(path) else path
        ) as file:
            return file.metadata
    except (pa.ArrowException, OSError) as error:
        raise InputError(
            f"is not readable Parquet: {error}",
            where=unit.name,
            remedy="set ingest.source.format, or write the file again",
        ) from None
