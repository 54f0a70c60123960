"""What a source holds, from its first rows, read by the code that ingest reads it with.

Two steps, because a task's columns may not be known yet:

    columns = scan_columns(params.source, root, schema)  # the columns as the source has them
    # Rows as ingest would write them, once columns are chosen:
    sample = read_sample(params, schema, root)
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import Any

import pyarrow as pa

from components.core.errors import InputError
from components.fields.source_values import is_nothing
from components.stages.ingest import source_files
from components.stages.ingest.columns import Layout, layout
from components.stages.ingest.params import Files, IngestParams
from components.stages.ingest.paths import flattened
from components.stages.ingest.pictures import PictureIndex
from components.stages.ingest.source_rows import (
    QUARANTINE,
    TABLES,
    Format,
    Record,
    RefusedRow,
    Unit,
    origin_of,
    shaped,
    usable_splits,
)
from components.stages.ingest.stage import (
    prepared,
    read_unit,
    records,
    refusal_notes,
    remedy_for,
    some,
    unit_keys,
)
from components.tasks.base import Schema, TargetRules

ROWS = 100_000
# Distinct values of a column that are counted; above that, "more than".
MOST_VALUES = 10_000
_REFUSALS = 20
_NESTED: tuple[Format, ...] = ("jsonl", "json", "parquet", "arrow")
_LONG = 200


@dataclass(frozen=True)
class UnitSample:
    """A file or a folder, as it was read."""

    name: str
    format: Format
    encodings: tuple[str, ...]
    split: str | None
    target_value: str | None
    # Whether the first line names the columns; None where a format has no such line.
    header: bool | None
    columns: tuple[str, ...]
    rows: int
    # Between the fields of a table of text; "" for other formats.
    delimiter: str = ""


@dataclass
class ColumnSample:
    """A column as the source has it."""

    name: str
    kind: pa.DataType = field(default_factory=pa.null)
    filled: int = 0
    length: int = 0
    # Bytes of the largest value, to compare with ingest.max_bytes_per_value.
    largest: int = 0
    # Stops growing at MOST_VALUES; long values are counted in `long` only.
    values: Counter[str] = field(default_factory=Counter)
    long: int = 0
    overflow: bool = False
    lists: int = 0
    # Values that name a picture beside the table.
    pictures: int = 0

    def add(self, value: Any) -> None:
        """Count one value."""
        data = value.get("bytes") if isinstance(value, dict) and "bytes" in value else value
        if isinstance(data, (list, tuple)):
            self.lists += 1
            data = _only_item(data)
        if data is None or (isinstance(data, str) and is_nothing(data)):
            return
        if isinstance(data, float) and math.isnan(data):
            return
        self.kind = pa.binary() if isinstance(data, bytes) else pa.string()
        self.filled += 1
        if isinstance(data, bytes):
            self.length += len(data)
            self.largest = max(self.largest, len(data))
            return
        self._count(str(data).strip())

    def _count(self, text: str) -> None:
        """Count one text."""
        self.length += len(text)
        if len(text) * 4 > self.largest:
            self.largest = max(self.largest, len(text.encode("utf-8", "replace")))
        if len(text) > _LONG:
            self.long += 1
        elif text in self.values or len(self.values) < MOST_VALUES:
            self.values[text] += 1
        else:
            self.overflow = True

    @property
    def is_picture(self) -> bool:
        """Return whether the column holds pictures, or names those beside the table."""
        # Names of pictures mostly come once; values such as 0 and 1 may be names of pictures too.
        return self.kind == pa.binary() or (
            self.pictures > self.filled / 2 and self.distinct > 0.9 * self.pictures
        )

    @property
    def mean(self) -> float:
        """Return the average length in characters (of pictures: bytes)."""
        return self.length / max(self.filled, 1)

    @property
    def distinct(self) -> int:
        """Return the number of distinct short values.

        It is a lower bound where `overflow` is set or values are long.
        """
        return len(self.values)

    @property
    def count_text(self) -> str:
        """Return the number of distinct values for a person: "12", "more than 10,000"."""
        if self.overflow or self.long:
            return f"more than {self.distinct:,}"
        return f"{self.distinct:,}"

    @property
    def is_numeric(self) -> bool:
        """Return whether all values are numbers."""
        return bool(self.values) and not self.long and all(map(_is_number, self.values))


def _is_number(text: str) -> bool:
    """Return whether a text is a finite number."""
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _only_item(items: Sequence[Any]) -> Any:
    """Return the item of a list of one, None of an empty list, and others as text."""
    if not items:
        return None
    return items[0] if len(items) == 1 else str(items)


@dataclass
class SourceColumns:
    """What the first rows of a source hold, before columns are chosen."""

    units: list[UnitSample]
    columns: dict[str, ColumnSample]
    examples: list[Mapping[str, Any]]  # the first three records
    rows: int  # records and refusals
    complete: bool  # no more rows than these
    refused: int
    refusals: list[RefusedRow]  # the first, with file and line
    notes: list[str]  # for a person: what was left out, what was taken for a header

    @property
    def is_table(self) -> bool:
        """Return whether the source names its columns (else files or folders do)."""
        return self.units[0].format in TABLES

    @property
    def encodings(self) -> set[str]:
        """Return the text encodings of all units."""
        return set(chain.from_iterable(unit.encodings for unit in self.units))


@dataclass
class Sample:
    """The first rows of a source as ingest writes them."""

    table: pa.Table  # raw rows: id, roles, group, split, origin
    quarantine: pa.Table  # origin, reason, excerpt
    units: list[UnitSample]
    complete: bool
    targets: dict[Any, int]  # rows by value of the target, the most frequent first
    without_target: int
    splits: dict[str, int]  # rows by canonical split, where the source has splits
    notes: list[str]

    @property
    def reasons(self) -> dict[str, int]:
        """Return the number of refused rows by reason."""
        return dict(Counter(self.quarantine["reason"].to_pylist()).most_common())

    @property
    def refusals(self) -> list[RefusedRow]:
        """Return the first refused rows."""
        first = self.quarantine.slice(0, _REFUSALS).to_pylist()
        return [RefusedRow(row["origin"], row["reason"], row["excerpt"]) for row in first]


def scan_columns(source: Files, root: Path, schema: Schema, rows: int = ROWS) -> SourceColumns:
    """Read the first rows of a source under its own column names.

    Args:
        source: section `ingest.source`.
        root: of the project.
        schema: of the task, for folders and texts, which name no columns.
        rows: at most so many records.

    Raises:
        InputError: there is nothing that can be read.
    """
    listing = source_files.list_source(source, root, schema.targets.words)
    result = SourceColumns([], {}, [], 0, True, 0, [], list(listing.notes))
    anything = Layout([], 2**31)
    nameless = layout(schema.roles, {}, 2**31)
    for unit in listing.units:
        if result.rows >= rows:
            result.complete = False
            break
        _scan_unit(unit, anything if unit.format in TABLES else nameless, rows, result)
    if not result.examples:
        raise _nothing(source, result, schema.targets)
    for column in result.columns.values():
        if column.is_picture:
            column.kind = pa.binary()
    result.notes += _header_notes(result.units)
    return result


def _header_notes(units: Sequence[UnitSample]) -> list[str]:
    """Return which tables have no header, as far as that was not said in params."""
    names: dict[tuple[str, ...], list[str]] = {}
    for unit in units:
        if unit.header is False:
            names.setdefault(unit.columns, []).append(unit.name)
    return [
        (
            f"without a header: {some(files)}; its columns are called {', '.join(columns)} "
            "(ingest.source.column_names)"
        )
        for columns, files in names.items()
    ]


def _scan_unit(unit: Unit, wanted: Layout, rows: int, result: SourceColumns) -> None:
    """Read a unit and add what it holds to the result."""
    encodings, before = set[str](), result.rows
    unit, wanted = prepared(unit, wanted)
    reader = read_unit(unit, wanted, encodings)
    pictures = PictureIndex(unit.paths[1:]) if unit.pictures else None
    names: dict[str, None] = dict.fromkeys(unit.dialect.names) if unit.dialect else {}
    for item in islice(reader, rows - result.rows):
        result.rows += 1
        if not isinstance(item, Record):
            result.refused += 1
            if len(result.refusals) < _REFUSALS:
                result.refusals.append(RefusedRow(origin_of(unit, item), item.reason, item.excerpt))
            continue
        values = item.values
        if unit.format in _NESTED:
            values = flattened(values)
        if len(result.examples) < 3:
            result.examples.append(values)
        for name, value in values.items():
            names[name] = None
            column = result.columns.get(name)
            if column is None:
                column = result.columns[name] = ColumnSample(name)
            column.add(value)
            if pictures and pictures.matches(value):
                column.pictures += 1
    if next(reader, None) is not None:
        result.complete = False
    result.units.append(_unit_sample(unit, encodings, tuple(names), result.rows - before))


def read_sample(params: IngestParams, schema: Schema, root: Path, rows: int = ROWS) -> Sample:
    """Read the first rows of a source as ingest does.

    Args:
        params: the section `ingest`, with columns chosen.
        schema: of the task.
        root: of the project.
        rows: at most so many records.

    Raises:
        InputError: there is nothing that can be read, or a column is absent.
        ParamsError: `ingest.columns` names something that the task does not have.
    """
    assert isinstance(params.source, Files), "of other sources nothing is guessed"
    roles = schema.with_inputs(schema.inputs(params)).roles
    value_map = schema.targets.value_map(params)
    wanted = layout(roles, params.columns, params.max_bytes_per_value, value_map)
    listing = source_files.list_source(params.source, root, schema.targets.words)
    units = listing.units
    keys = unit_keys([unit.name for unit in units])
    tables, bad, samples = [wanted.schema.empty_table()], [QUARANTINE.empty_table()], []
    count, complete = 0, True
    for unit in units:
        if count >= rows:
            complete = False
            break
        encodings = set[str]()
        looked_at, needed = prepared(unit, wanted)
        reader = iter(records(looked_at, needed, encodings))
        table, refused = shaped(
            islice(reader, rows - count),
            needed,
            looked_at,
            keys[unit.name],
        )
        complete = complete and next(reader, None) is None
        count += table.num_rows + refused.num_rows
        tables.append(table)
        bad.append(refused)
        columns = looked_at.dialect.names if looked_at.dialect else ()
        samples.append(
            _unit_sample(looked_at, encodings, columns, table.num_rows + refused.num_rows)
        )
    target = wanted.target.name if wanted.target else None
    table, note = usable_splits(pa.concat_tables(tables), target, units, schema.targets.words)
    sample = _summarized(table, pa.concat_tables(bad), wanted, samples, complete)
    sample.notes = list(listing.notes)
    if note:
        sample.notes.append(note)
    sample.notes += refusal_notes(sample.quarantine)
    if target:
        sample.notes += schema.targets.source_notes(table[target])
    return sample


def _summarized(
    table: pa.Table, quarantine: pa.Table, wanted: Layout, units: list[UnitSample], complete: bool
) -> Sample:
    """Return the sample of a source, with counts of its targets and splits."""
    targets = pa.chunked_array([pa.nulls(0)])
    if wanted.target:
        targets = table[wanted.target.name]
    counts = Counter(value for value in targets.to_pylist() if value is not None)
    splits = Counter(split for split in table["split"].to_pylist() if split is not None)
    return Sample(
        table=table,
        quarantine=quarantine,
        units=units,
        complete=complete,
        targets=dict(counts.most_common()),
        without_target=targets.null_count,
        splits=dict(splits),
        notes=[],
    )


def _unit_sample(
    unit: Unit, encodings: set[str], columns: tuple[str, ...], rows: int
) -> UnitSample:
    """Return the description of a unit that was read."""
    return UnitSample(
        name=unit.name,
        format=unit.format,
        encodings=tuple(sorted(encodings)),
        split=unit.split,
        target_value=unit.target_value,
        header=unit.dialect.header if unit.dialect else None,
        columns=columns,
        rows=rows,
        delimiter=unit.dialect.delimiter if unit.dialect else "",
    )


def _nothing(source: Files, result: SourceColumns, targets: TargetRules) -> InputError:
    """Return the error for a source without usable rows."""
    if not result.refused:
        return InputError(
            "holds no rows",
            where=source.path,
            remedy="put rows below its header, or give another file",
        )
    first = result.refusals[0]
    what = f"has no usable row among the first {result.refused:,}; the first: {first}"
    reasons = {refusal.reason for refusal in result.refusals}
    return InputError(what, where=source.path, remedy=remedy_for(reasons, targets))
