"""Rows of a source as ingest would write them, one after the other, and what it would refuse."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, islice
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from components.stages.ingest import source_files
from components.stages.ingest.columns import Layout, layout
from components.stages.ingest.params import Files, IngestParams
from components.stages.ingest.sample import SourceColumns
from components.stages.ingest.source_rows import RefusedRow, Unit, shaped
from components.stages.ingest.stage import label_rules, prepared, records, unit_keys
from components.tasks import base

ROWS = 100_000
_BYTES = 2_000_000_000
_CHUNK = 1_000
_REFUSALS = 5
_LINES = ("csv", "tsv", "jsonl", "text")


@dataclass
class Intake:
    """What was read so far. It is complete when all rows were asked for."""

    # rows of the whole source; estimated from its lines where it is larger than what is read
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
    def kept(self) -> int:
        """Return the rows that ingest keeps."""
        return self.read - self.refused.total()


def rows_of(
    params: IngestParams,
    task: str,
    root: Path,
    intake: Intake,
) -> Iterator[dict[str, Any]]:
    """Yield the rows that ingest keeps, read and converted by its own code.

    Args:
        params: the section `ingest`, columns chosen.
        task: its id.
        root: of the project.
        intake: is brought up to date on the way.

    Raises:
        InputError: there is nothing that can be read, or a column is absent.
    """
    assert isinstance(params.source, Files), "of other sources nothing is guessed"
    roles = base.schema(task).roles
    wanted = layout(roles, params.columns, params.max_bytes_per_value, label_rules(params))
    units = _thinned(source_files.units(params.source, root), intake)
    intake.units = units
    keys = unit_keys([unit.name for unit in units])
    for unit in units:
        yield from _rows_of_unit(unit, wanted, keys[unit.name], intake)
        if intake.read >= ROWS:
            break
    if unit is not units[-1]:
        intake.whole = False
    intake.total = max(intake.total, intake.read)
    if not intake.whole:
        intake.total = max(intake.total, _estimate(units))


def _rows_of_unit(unit: Unit, wanted: Layout, key: str, intake: Intake) -> Iterator[dict[str, Any]]:
    unit, wanted = prepared(unit, wanted)
    reader = iter(records(unit, wanted, intake.encodings))
    while intake.read < ROWS:
        chunk = list(islice(reader, min(_CHUNK, ROWS - intake.read)))
        if not chunk:
            return
        table, refused = shaped(chunk, wanted, unit, key)
        intake.read += len(chunk)
        intake.refused.update(refused["reason"].to_pylist())
        limit = _REFUSALS - len(intake.refusals)
        for row in refused.slice(0, limit).to_pylist():
            intake.refusals.append(RefusedRow(row["origin"], row["reason"], row["excerpt"]))
        intake.splits.update(split for split in table["split"].to_pylist() if split is not None)
        for row in table.to_pylist():
            if len(intake.examples) < 3:
                intake.examples.append(row)
            yield row
    if next(reader, None) is not None:
        intake.whole = False


def _thinned(units: Sequence[Unit], intake: Intake) -> list[Unit]:
    """Return class folders with every k-th file only, where all of them would be too much.

    The first files of a folder would be of its first class.
    """
    folders = [unit for unit in units if unit.format == "folders"]
    paths = list(chain.from_iterable(unit.paths for unit in folders))
    number = len(paths)
    if not number:
        return list(units)
    intake.total = number
    size = sum(path.stat().st_size for path in paths)
    step = max(-(-number // ROWS), -(-size // _BYTES))
    if step == 1:
        return list(units)
    intake.whole = False
    return [replace(unit, paths=unit.paths[::step]) for unit in units]


def _estimate(units: Sequence[Unit]) -> int:
    """Return the rows of some files by their lines; those in an archive count as none."""
    return sum(_rows_by_lines(unit) for unit in units)


def _rows_by_lines(unit: Unit) -> int:
    if unit.format == "folders":
        return len(unit.paths)
    if unit.format == "parquet":
        return int(pq.read_metadata(unit.paths[0]).num_rows)
    if unit.format not in _LINES or unit.paths[0].suffix in (".gz", ".bz2", ".xz", ".zst"):
        return 0
    lines = 0
    with unit.paths[0].open("rb") as stream:
        while chunk := stream.read(1 << 20):
            lines += chunk.count(b"\n")
    return lines


def count_rows(source: Files, root: Path, seen: SourceColumns) -> int:
    """Return the rows of a source; of a table with more than were looked at an estimate."""
    if seen.is_table and seen.complete:
        return seen.rows - seen.refused
    return max(_estimate(source_files.units(source, root)), 1)
