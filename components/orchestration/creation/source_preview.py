"""Preview of the stage ingest: the rows of a source as it writes them, and those it refuses."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from components.stages.ingest import source_files
from components.stages.ingest.arrow_files import arrow_file
from components.stages.ingest.columns import Layout, layout
from components.stages.ingest.params import Files, IngestParams
from components.stages.ingest.sample import SourceColumns
from components.stages.ingest.source_rows import RefusedRow, Unit, shaped
from components.stages.ingest.stage import prepared, records, unit_keys
from components.tasks import base

# Rows and bytes that are read at most.
ROWS = 100_000
_BYTES = 2_000_000_000
# Rows that are converted at once.
_CHUNK = 1_000
# Refused rows whose details are recorded.
_REFUSALS = 5
_EXAMPLES = 3
# Formats with one row on each line.
_LINES = ("csv", "tsv", "jsonl", "text")
_COMPRESSED = (".gz", ".bz2", ".xz", ".zst")
# Bytes that are read at once to count lines.
_BLOCK = 1 << 20


@dataclass
class Intake:
    """Counts of the rows that were read so far. They are final when all rows were read."""

    # rows of the whole source; estimated from its lines where not all are read
    total: int = 0
    read: int = 0
    whole: bool = True
    refused: Counter[str] = field(default_factory=Counter)
    refusals: list[RefusedRow] = field(default_factory=list)
    splits: Counter[str] = field(default_factory=Counter)
    encodings: set[str] = field(default_factory=set)
    units: list[Unit] = field(default_factory=list)
    # the first rows
    examples: list[dict[str, Any]] = field(default_factory=list)

    @property
    def usable_count(self) -> int:
        """Return the number of rows that ingest keeps."""
        return self.read - self.refused.total()


def rows_of(
    params: IngestParams,
    schema: base.Schema,
    root: Path,
    intake: Intake,
    most: int = ROWS,
) -> Iterator[dict[str, Any]]:
    """Yield the rows that ingest keeps, read and converted by its own code.

    Args:
        params: the section `ingest`, columns chosen.
        schema: of the pipeline.
        root: of the project.
        intake: is updated meanwhile.
        most: rows that are read.

    Raises:
        InputError: nothing can be read, or a column is missing.
    """
    assert isinstance(params.source, Files), "of other sources nothing is guessed"
    value_map = schema.targets.value_map(params)
    limit = params.max_bytes_per_value
    wanted = layout(schema.roles, params.columns, limit, value_map, params.time_order)
    units = _sampled(source_files.units(params.source, root, schema.targets.words), intake)
    intake.units = units
    keys = unit_keys([unit.name for unit in units])
    for unit in units:
        yield from _rows_of_unit(unit, wanted, keys[unit.name], intake, most)
        if intake.read >= most:
            break
    if unit is not units[-1]:
        intake.whole = False
    intake.total = max(intake.total, intake.read)
    if not intake.whole:
        intake.total = max(intake.total, _estimate(units))


def _rows_of_unit(
    unit: Unit, wanted: Layout, key: str, intake: Intake, most: int
) -> Iterator[dict[str, Any]]:
    """Yield the rows that ingest keeps of a unit of the source.

    Args:
        unit: of the source.
        wanted: the columns of the raw table.
        key: that makes ids of the unit unique.
        intake: is updated meanwhile.
        most: rows of all units that are read.
    """
    unit, wanted = prepared(unit, wanted)
    reader = iter(records(unit, wanted, intake.encodings))
    while intake.read < most:
        chunk = list(islice(reader, min(_CHUNK, most - intake.read)))
        if not chunk:
            return
        table, refused = shaped(chunk, wanted, unit, key)
        intake.read += len(chunk)
        _count_refused(intake, refused)
        intake.splits.update(split for split in table["split"].to_pylist() if split is not None)
        for row in table.to_pylist():
            if len(intake.examples) < _EXAMPLES:
                intake.examples.append(row)
            yield row
    if next(reader, None) is not None:
        intake.whole = False


def _count_refused(intake: Intake, refused: pa.Table) -> None:
    intake.refused.update(refused["reason"].to_pylist())
    limit = _REFUSALS - len(intake.refusals)
    for row in refused.slice(0, limit).to_pylist():
        intake.refusals.append(RefusedRow(row["origin"], row["reason"], row["excerpt"]))


def _sampled(units: Sequence[Unit], intake: Intake) -> list[Unit]:
    """Return folders with every k-th file alone, where there are too many files.

    The first files of a folder of folders would all have one target.
    """
    folders = [unit for unit in units if unit.format == "folders"]
    paths = list(chain.from_iterable(unit.paths for unit in folders))
    count = len(paths)
    if not count:
        return list(units)
    intake.total = count
    size = sum(path.stat().st_size for path in paths)
    step = max(_divide_up(count, ROWS), _divide_up(size, _BYTES))
    if step == 1:
        return list(units)
    intake.whole = False
    return [replace(unit, paths=unit.paths[::step]) for unit in units]


def _divide_up(number: int, divisor: int) -> int:
    """Return the quotient, rounded up."""
    return -(-number // divisor)


def _estimate(units: Sequence[Unit]) -> int:
    """Return the rows of files, estimated from their lines; compressed files count as empty."""
    return sum(_rows_by_lines(unit) for unit in units)


def _rows_by_lines(unit: Unit) -> int:
    if unit.format == "folders":
        return len(unit.paths)
    if unit.format == "parquet":
        return int(pq.read_metadata(unit.paths[0]).num_rows)
    if unit.format == "arrow":
        with arrow_file(unit.paths[0], unit.name) as file:
            return file.row_count()
    if unit.format not in _LINES or unit.paths[0].suffix in _COMPRESSED:
        return 0
    lines = 0
    with unit.paths[0].open("rb") as stream:
        while block := stream.read(_BLOCK):
            lines += block.count(b"\n")
    return lines


def count_rows(source: Files, root: Path, seen: SourceColumns) -> int:
    """Return the number of rows of a source, estimated where not all were read.

    Args:
        source: files of the rows.
        root: of the project.
        seen: the columns of the source.
    """
    if seen.is_table and seen.complete:
        return seen.rows - seen.refused
    return max(_estimate(source_files.units(source, root)), 1)
