"""What a source holds, from its first rows, read by the code that ingest reads it with.

Two steps, because a task's columns may not be known yet:

    columns = scan_columns(params.source, root)     # the columns as the source has them
    sample = read_sample(params, roles, root)       # rows as ingest would write them, once columns are chosen
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from components.core.errors import InputError
from components.ingest import files
from components.ingest.columns import Column, Layout, is_nothing, layout
from components.ingest.params import Files, IngestParams
from components.ingest.rows import QUARANTINE, Format, Record, Refusal, Unit, shaped
from components.ingest.stage import READERS, label_rules, unit_keys
from components.tasks.base import Role

ROWS = 100_000
# Distinct values of a column that are counted; above that, "more than".
MOST_VALUES = 10_000
TABLES: tuple[Format, ...] = ("csv", "tsv", "jsonl", "parquet")
_REFUSALS = 20
_LONG = 200
_FEW_NUMBERS = 20


@dataclass(frozen=True)
class UnitSample:
    """A file, or a folder of a class, as it was read."""

    name: str
    format: Format
    encodings: tuple[str, ...]
    split: str | None
    label: str | None
    # Whether the first line names the columns; None where a format has no such line.
    header: bool | None
    columns: tuple[str, ...]
    rows: int


@dataclass
class ColumnSample:
    """A column as the source has it."""

    name: str
    kind: pa.DataType = field(default_factory=pa.null)
    filled: int = 0
    length: int = 0
    # Stops growing at MOST_VALUES; long values are counted in `long` only.
    values: Counter[str] = field(default_factory=Counter)
    long: int = 0
    overflow: bool = False
    lists: int = 0

    def add(self, value: Any) -> None:
        """Count one value."""
        data = value.get("bytes") if isinstance(value, dict) and "bytes" in value else value
        if isinstance(data, (list, tuple)):
            self.lists += 1
            data = data[0] if len(data) == 1 else (None if not data else str(data))
        if data is None or (isinstance(data, str) and is_nothing(data)):
            return
        if isinstance(data, float) and math.isnan(data):
            return
        self.kind = pa.binary() if isinstance(data, bytes) else pa.string()
        self.filled += 1
        if isinstance(data, bytes):
            self.length += len(data)
            return
        self._count(str(data).strip())

    def _count(self, text: str) -> None:
        self.length += len(text)
        if len(text) > _LONG:
            self.long += 1
        elif text in self.values or len(self.values) < MOST_VALUES:
            self.values[text] += 1
        else:
            self.overflow = True

    @property
    def mean(self) -> float:
        """The average length in characters (of pictures: bytes)."""
        return self.length / max(self.filled, 1)

    @property
    def distinct(self) -> int:
        """Distinct short values; a lower bound where `overflow` is set or values are long."""
        return len(self.values)

    @property
    def count_text(self) -> str:
        """The number of distinct values for a person: "12", "more than 10,000"."""
        if self.overflow or self.long:
            return f"more than {self.distinct:,}"
        return f"{self.distinct:,}"

    @property
    def is_numeric(self) -> bool:
        """Whether all values are numbers."""
        return bool(self.values) and not self.long and all(_number(value) is not None for value in self.values)


@dataclass
class SourceColumns:
    """What the first rows of a source hold, before columns are chosen."""

    units: list[UnitSample]
    columns: dict[str, ColumnSample]
    examples: list[Mapping[str, Any]]  # the first three records
    rows: int  # records and refusals
    complete: bool  # no more rows than these
    refused: int
    refusals: list[Refusal]  # the first, with file and line
    notes: list[str]  # for a person: what was left out, what was taken for a header

    @property
    def is_table(self) -> bool:
        """Whether the source names its columns (else a file or folder is a class)."""
        return self.units[0].format in TABLES

    @property
    def encodings(self) -> set[str]:
        """The text encodings of all units."""
        return {encoding for unit in self.units for encoding in unit.encodings}


@dataclass
class Sample:
    """The first rows of a source as ingest writes them."""

    table: pa.Table  # raw rows: id, roles, group, split, origin
    quarantine: pa.Table  # origin, reason, excerpt
    units: list[UnitSample]
    complete: bool
    classes: dict[str, int]  # by label, the most frequent first
    unlabelled: int
    splits: dict[str, int]  # rows by canonical split, where the source has splits
    alike: list[list[str]]  # labels that differ only in capital letters
    numeric: bool  # the target is a number on a scale, not a class
    notes: list[str]

    @property
    def reasons(self) -> dict[str, int]:
        """Refused rows by reason."""
        return dict(Counter(self.quarantine["reason"].to_pylist()).most_common())

    @property
    def refusals(self) -> list[Refusal]:
        """The first refused rows."""
        first = self.quarantine.slice(0, _REFUSALS).to_pylist()
        return [Refusal(row["origin"], row["reason"], row["excerpt"]) for row in first]


def scan_columns(source: Files, root: Path, role: Role | None = None, rows: int = ROWS) -> SourceColumns:
    """Read the first rows of a source under its own column names.

    Args:
        source: section `ingest.source`.
        root: of the project.
        role: the task's input, for sources without columns (class folders, a text file per class).
        rows: at most so many records.

    Raises:
        InputError: there is nothing that can be read.
    """
    units = files.units(source, root)
    result = SourceColumns([], {}, [], 0, True, 0, [], [])
    anything = Layout([], 2**31)
    classes = layout([role], {}, 2**31) if role else anything
    classes = replace(classes, columns=[*classes.columns, _LABEL])
    for unit in units:
        if result.rows >= rows:
            result.complete = False
            break
        _scan_unit(unit, anything if unit.format in TABLES else classes, rows, result)
    if not result.examples:
        raise _nothing(source, result)
    return result


def _scan_unit(unit: Unit, wanted: Layout, rows: int, result: SourceColumns) -> None:
    encodings, before = set[str](), result.rows
    reader = READERS[unit.format](unit, wanted, encodings)
    names: dict[str, None] = {}
    for item in islice(reader, rows - result.rows):
        result.rows += 1
        if not isinstance(item, Record):
            result.refused += 1
            if len(result.refusals) < _REFUSALS:
                result.refusals.append(Refusal(f"{unit.name}:{item.row}", item.reason, item.excerpt))
            continue
        if len(result.examples) < 3:
            result.examples.append(item.values)
        for name, value in item.values.items():
            names[name] = None
            result.columns.setdefault(name, ColumnSample(name)).add(value)
    if next(reader, None) is not None:
        result.complete = False
    result.units.append(_unit_sample(unit, encodings, tuple(names), result.rows - before))


def read_sample(params: IngestParams, roles: Sequence[Role], root: Path, rows: int = ROWS) -> Sample:
    """Read the first rows of a source as ingest does.

    Args:
        params: the section `ingest`, with columns chosen.
        roles: of the task's schema.
        root: of the project.
        rows: at most so many records.

    Raises:
        InputError: there is nothing that can be read, or a column is absent.
        ParamsError: `ingest.columns` names something that the task does not have.
    """
    assert isinstance(params.source, Files), "of other sources nothing is guessed"
    wanted = layout(roles, params.columns, params.max_bytes_per_value, label_rules(params))
    units = files.units(params.source, root)
    keys = unit_keys([unit.name for unit in units])
    tables, bad, samples = [wanted.schema.empty_table()], [QUARANTINE.empty_table()], []
    count, complete = 0, True
    for unit in units:
        if count >= rows:
            complete = False
            break
        encodings = set[str]()
        reader = READERS[unit.format](unit, wanted, encodings)
        table, refused = shaped(islice(reader, rows - count), wanted, unit, keys[unit.name])
        complete = complete and next(reader, None) is None
        count += table.num_rows + refused.num_rows
        tables.append(table)
        bad.append(refused)
        columns = tuple(column.source for column in wanted.columns)
        samples.append(_unit_sample(unit, encodings, columns, table.num_rows + refused.num_rows))
    return _summarized(pa.concat_tables(tables), pa.concat_tables(bad), wanted, samples, complete)


def _summarized(table: pa.Table, quarantine: pa.Table, wanted: Layout, units: list[UnitSample], complete: bool) -> Sample:
    labels = table[wanted.target.name] if wanted.target else pa.chunked_array([pa.nulls(0)])
    counts = Counter(label for label in labels.to_pylist() if label is not None)
    splits = Counter(split for split in table["split"].to_pylist() if split is not None)
    return Sample(
        table=table,
        quarantine=quarantine,
        units=units,
        complete=complete,
        classes=dict(counts.most_common()),
        unlabelled=pc.sum(pc.is_null(labels)).as_py() or 0,
        splits=dict(splits),
        alike=alike_labels(counts),
        numeric=is_scale(counts),
        notes=[],
    )


def alike_labels(labels: Mapping[str, int]) -> list[list[str]]:
    """Return groups of labels that differ only in capital letters, each with the most frequent first."""
    groups: dict[str, list[str]] = {}
    for label in sorted(labels, key=lambda name: (-labels[name], name)):
        groups.setdefault(label.casefold(), []).append(label)
    return [group for group in groups.values() if len(group) > 1]


def is_scale(labels: Mapping[str, int]) -> bool:
    """Return whether labels are numbers on a scale: many distinct ones, or fractions.

    Whole numbers up to a few dozen are classes (stars, digits, codes).
    """
    numbers = [_number(label) for label in labels]
    if len(numbers) <= _FEW_NUMBERS or any(number is None for number in numbers):
        return False
    fractions = sum(1 for number in numbers if number is not None and not float(number).is_integer())
    if fractions:
        return True
    # Codes of 200 classes have many rows each; a count or a price has few.
    return sum(labels.values()) < 5 * len(numbers)


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _unit_sample(unit: Unit, encodings: set[str], columns: tuple[str, ...], rows: int) -> UnitSample:
    return UnitSample(
        name=unit.name,
        format=unit.format,
        encodings=tuple(sorted(encodings)),
        split=unit.split,
        label=unit.label,
        header=True if unit.format in ("csv", "tsv") else None,
        columns=columns,
        rows=rows,
    )


def _nothing(source: Files, result: SourceColumns) -> InputError:
    if not result.refused:
        return InputError("holds no rows", where=source.path, remedy="put rows below its header, or give another file")
    first = result.refusals[0]
    what = f"has no usable row among the first {result.refused:,}; {first}"
    return InputError(what, where=source.path, remedy="mend the file, or name its format: --format")


_LABEL = Column("label", "label", pa.string(), "target", must=True)
