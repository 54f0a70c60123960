"""Survey of a source without reading it into a table: whether it has new rows or other columns."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Collection, Mapping, MutableMapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from components.core.errors import InputError
from components.core.files import sha256, to_json
from components.stages.ingest import formats, source_files, sql_source
from components.stages.ingest.arrow_files import arrow_file
from components.stages.ingest.columns import Layout, merged
from components.stages.ingest.compressed import inner_name, is_compressed, open_bytes, read_bytes
from components.stages.ingest.json_records import keys, objects
from components.stages.ingest.params import (
    IngestParams,
    Sql,
)
from components.stages.ingest.source_rows import Unit
from components.stages.ingest.sources import list_source
from components.stages.ingest.workbooks import sheet_rows
from components.tasks.base import ANY_TARGET, TargetWords

_CHUNK = 1 << 20
_WITHOUT_LINES = (".json", ".xlsx", ".xlsm")
# Objects of JSON lines whose keys are the columns.
_OBJECTS = 1000
# Age in ns above which the metadata of a file is stored. A newer file may be written again within
# one tick of the clock of its file system.
_SETTLED_NS = 2_000_000_000
# Size, modification time in ns, SHA-256, lines.
FileMetadata = list[int | str]
# By path.
Known = MutableMapping[str, FileMetadata]


@dataclass(frozen=True)
class Survey:
    """State of a source at one moment.

    Args:
        files: name of a unit of the source -> its target value and hashes.
        feedback: name of a file of accepted feedback -> its hash; DVC does not track these files.
        rows: lines, rows of Parquet or files of folders; comparable only within a source.
        columns: name -> type, of tables.
        bytes: size of all files.
        cursor: the greatest value that was pulled of a database.
    """

    files: Mapping[str, list[str]]
    feedback: Mapping[str, list[str]]
    rows: int
    columns: Mapping[str, str]
    bytes: int
    cursor: str = ""

    @property
    def digest(self) -> str:
        """Return a hash that changes with any byte of the source and the feedback."""
        return _digest({**self.files, **self.feedback})

    @property
    def pin(self) -> str:
        """Return a digest of the feedback alone; "" where there is none."""
        return _digest(self.feedback) if self.feedback else ""

    def only(self, names: Collection[str]) -> Survey:
        """Return the survey without the feedback that lies in other files."""
        feedback = {name: hashes for name, hashes in self.feedback.items() if name in names}
        return replace(self, feedback=feedback)


def survey(
    params: IngestParams, root: Path, known: Known, words: TargetWords = ANY_TARGET
) -> Survey:
    """Return the state of the source.

    Args:
        params: the section `ingest`.
        root: of the project.
        known: metadata of files from the last survey; updated.
        words: of the task, for messages.

    Raises:
        InputError: the source is missing, or cannot be read.
    """
    files: dict[str, list[str]] = {}
    rows = 0
    size = 0
    columns: dict[str, str] = {}
    for unit in list_source(params.source, root, words).units:
        metadata_of_files = [_file(path, known) for path in unit.paths]
        files[unit.name] = _hashes(unit, metadata_of_files)
        size += sum(int(entry[0]) for entry in metadata_of_files)
        rows += _row_count(unit, metadata_of_files)
        for name, kind in _columns(unit).items():
            columns[name] = merged(columns.get(name, kind), kind) or kind
    feedback: dict[str, list[str]] = {}
    if params.feedback:
        for unit in source_files.feedback(params.feedback, root):
            feedback[unit.name] = [str(_file(unit.paths[0], known)[2])]
    cursor = ""
    if isinstance(params.source, Sql):
        mark = sql_source.read(root / params.source.path)
        cursor = mark.value if mark else ""
    return Survey(files, feedback, rows, columns, size, cursor)


def _hashes(unit: Unit, files: Sequence[FileMetadata]) -> list[str]:
    """Return the target value of a unit and the hashes of its files; a version if it has none."""
    if not files:
        return [metadata.version("scikit-learn")]
    return [unit.target_value or "", *(str(entry[2]) for entry in files)]


def _row_count(unit: Unit, files: Sequence[FileMetadata]) -> int:
    """Return the number of rows of a unit; 1 of one without files."""
    if unit.format == "folders":
        return len(files)
    return _rows(unit, int(files[0][3])) if files else 1


def _digest(files: Mapping[str, list[str]]) -> str:
    """Return the SHA-256 of names and hashes."""
    return hashlib.sha256(to_json(files).encode()).hexdigest()


def changes(
    before_rows: int,
    before_columns: Mapping[str, str],
    rows: int,
    columns: Mapping[str, str],
    least: float,
) -> list[str]:
    """Return what is wrong with a source, compared with an earlier state.

    Args:
        before_rows: number of rows before.
        before_columns: name -> type before.
        rows: number of rows now.
        columns: name -> type now.
        least: share of the rows before that must still be there.

    Returns:
        A message for too few rows, and for each column that is gone, empty now or of another type.
    """
    messages = []
    if rows < least * before_rows:
        messages.append(f"{rows:,} rows where there were {before_rows:,}, less than {least:.0%}")
    messages += [f"the column {name!r} is gone" for name in before_columns if name not in columns]
    for name, kind in before_columns.items():
        now = columns.get(name, kind)
        if now != kind and (now == "null" or merged(kind, now) is None):
            messages.append(f"the column {name!r} is {now} and was {kind}")
    return messages


def read_known(path: Path) -> Known:
    """Return the metadata of files from an earlier survey; none where there was no such survey."""
    with suppress(OSError, ValueError):
        known: Known = json.loads(path.read_text(encoding="utf-8"))
        return known
    return {}


def _file(path: Path, known: Known) -> FileMetadata:
    """Return size, modification time in ns, SHA-256 and lines of a file.

    Args:
        path: of the file.
        known: metadata of files from the last survey; updated.
        words: of the task, for messages.

    Raises:
        InputError: the file cannot be read.
    """
    try:
        stat = path.stat()
        before = known.get(str(path))
        if before and before[:2] == [stat.st_size, stat.st_mtime_ns]:
            return before
        entry: FileMetadata = [stat.st_size, stat.st_mtime_ns, *_read(path)]
    except OSError as error:
        raise InputError(
            f"cannot be read: {error.strerror}",
            where=str(path),
            remedy="bring it back, or set ingest.source to what there is",
        ) from None
    if time.time_ns() - stat.st_mtime_ns > _SETTLED_NS:
        known[str(path)] = entry
    return entry


def _read(path: Path) -> tuple[str, int]:
    """Return the SHA-256 and the number of lines of a file; without lines, of its records."""
    if is_compressed(path) or inner_name(path).suffix.lower() in _WITHOUT_LINES:
        return sha256(path), _records(path)
    digest = hashlib.sha256()
    lines = 0
    last = b"\n"
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
            lines += chunk.count(b"\n")
            last = chunk[-1:]
    if last != b"\n":
        lines += 1
    return digest.hexdigest(), lines


def _records(path: Path) -> int:
    """Return how many records a file has; a compressed one, how many lines."""
    unit = Unit(path.name, (path,), "json")
    kind = inner_name(path).suffix.lower()
    if kind == ".json":
        return sum(1 for _ in objects(unit, Layout([], 1), set()))
    if kind in (".xlsx", ".xlsm"):
        return sum(1 for _ in sheet_rows(unit, Layout([], 1)).rows)
    lines = 0
    with open_bytes(path, path.name) as stream:
        while chunk := stream.read(_CHUNK):
            lines += chunk.count(b"\n")
    return lines


def _rows(unit: Unit, lines: int) -> int:
    """Return the number of rows of a file that has so many lines, without its header."""
    if unit.format == "parquet":
        return int(_parquet(unit).num_rows)
    if unit.format == "arrow":
        with arrow_file(unit.paths[0], unit.name) as file:
            return file.row_count()
    if unit.format in ("csv", "tsv", "xlsx"):
        lines -= 1
    return max(0, lines)


def _columns(unit: Unit) -> dict[str, str]:
    """Return the columns of a table and their types."""
    if unit.format == "parquet":
        schema = _parquet(unit).schema.to_arrow_schema()
        return {field.name: str(field.type) for field in schema}
    if unit.format == "arrow":
        with arrow_file(unit.paths[0], unit.name) as file:
            return {field.name: str(field.type) for field in file.schema}
    if unit.format in ("csv", "tsv"):
        return dict.fromkeys(formats.header(unit), "text")
    if unit.format == "xlsx":
        return dict.fromkeys(sheet_rows(unit, Layout([], 1)).names, "text")
    if unit.format in ("jsonl", "json"):
        return dict.fromkeys(keys(unit, _OBJECTS), "any")
    return {}


def _parquet(unit: Unit) -> pq.FileMetaData:
    """Return the metadata of a Parquet file.

    Raises:
        InputError: it is none.
    """
    path = unit.paths[0]
    try:
        content: Any = path
        if is_compressed(path):
            content = pa.BufferReader(read_bytes(path, unit.name))
        with pq.ParquetFile(content) as file:
            return file.metadata
    except (pa.ArrowException, OSError) as error:
        raise InputError(
            f"is not readable Parquet: {error}",
            where=unit.name,
            remedy="set ingest.source.format, or write the file again",
        ) from None
