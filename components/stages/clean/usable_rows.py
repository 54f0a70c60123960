"""Rows of the raw table that can be used, and the rejected ones with the reasons."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from components.core.errors import InputError
from components.core.mapped_tables import take
from components.fields.base import Field
from components.fields.text import Text
from components.stages.clean.cleaning import UNLABELLED, USABLE, target_of, target_role
from components.stages.clean.duplicates import OWN_SPLITS, Rows, reasons
from components.stages.clean.quarantine import Rejected
from components.stages.clean.unique_rows import Bands, UniqueRows
from components.tasks import base

_EXCERPT = 200
# Column of the raw table where ingest.columns names one, and of clean tables split by time.
TIME = "time"


@dataclass
class Usable:
    """Rows with a target, numbered from 0 in the source's order.

    Args:
        raw: the raw table.
        unique_rows: its cleaned contents.
        schema: of the task.
        raw_rows: (rows,) positions in the raw table.
        unlabeled_rows: positions in the raw table of rows without a target that are kept.
        key_ids: (rows,) the same number for rows whose inputs count as the same.
        target_ids: (rows,) numbers of `target_values`.
        target_values: the different targets, by number.
        splits: (rows,) the source's own, numbers of OWN_SPLITS.
        has_splits: whether the source names a split of any row.
    """

    raw: pa.Table
    unique_rows: UniqueRows
    schema: base.Schema
    raw_rows: Rows
    unlabeled_rows: Rows
    key_ids: Rows
    target_ids: Rows
    target_values: list[Any]
    splits: Rows
    has_splits: bool

    def keys(self, rows: Rows) -> list[str]:
        """Return the SHA-256 of the keys of some rows."""
        keys = self.unique_rows.column("key", self.raw_rows[rows])
        return [key.hex() for key in keys.to_pylist()]

    def targets(self, rows: Rows) -> list[Any]:
        """Return the targets of some rows."""
        return [self.target_values[number] for number in self.target_ids[rows].tolist()]

    def column(self, name: str, rows: Rows) -> pa.Array:
        """Return a column of the cleaned contents for some rows."""
        return self.unique_rows.column(name, self.raw_rows[rows])

    def ids(self, rows: Rows) -> list[str]:
        """Return the ids of some rows."""
        return list(take(self.raw["id"], self.raw_rows[rows]).to_pylist())

    def accepted(self) -> NDArray[np.bool_]:
        """Return (rows,) whether a person accepted the target."""
        is_feedback = pc.starts_with(self.raw["id"], base.FEEDBACK)
        return np.asarray(is_feedback.to_numpy(zero_copy_only=False))[self.raw_rows].astype(bool)

    def values(self, name: str, rows: Rows) -> pa.ChunkedArray:
        """Return cleaned values of an input column.

        Args:
            name: of the column.
            rows: row numbers.
        """
        return self.unique_rows.values(name, self.raw_rows[rows], self.schema_type(name))

    def windows(self, rows: Rows) -> Iterator[Rows]:
        """Yield parts of rows (see `UniqueRows.windows`)."""
        first = 0
        for part in self.unique_rows.windows(self.raw_rows[rows]):
            yield rows[first : first + len(part)]
            first += len(part)

    def value(self, name: str, row: int) -> Any:
        """Return the cleaned value of an input column for one row.

        Args:
            name: of the column.
            row: row number.
        """
        return self.unique_rows.value(name, int(self.raw_rows[row]))

    def changes(self) -> Iterator[tuple[str, int]]:
        """Yield what cleaning took from the rows (see `UniqueRows.changes`)."""
        return self.unique_rows.changes(np.concatenate([self.raw_rows, self.unlabeled_rows]))

    def moments(self, rows: Rows) -> NDArray[np.float64]:
        """Return the times of some rows in seconds since 1970, NaN where there is none.

        Raises:
            InputError: the raw table has no column of times.
        """
        if TIME not in self.raw.column_names:
            raise InputError(
                "no column is named as the time of a row",
                where="clean.split_by: time",
                remedy="set ingest.columns.time to a column of dates, or clean.split_by: hash",
            )
        times = take(self.raw[TIME], self.raw_rows[rows])
        moments: NDArray[np.float64] = times.to_numpy(zero_copy_only=False)
        return moments

    def origins(self, rows: Rows) -> list[str]:
        """Return where some rows come from."""
        return list(take(self.raw["origin"], self.raw_rows[rows]).to_pylist())

    def bands(self, name: str, rows: Rows, file: Path | None) -> tuple[Rows, Bands]:
        """Return the signatures of an input column (see `UniqueRows.bands`)."""
        return self.unique_rows.bands(name, self.raw_rows[rows], file)

    def groups(self, rows: Rows) -> pa.Array:
        """Return the group keys of the source for some rows, null where there is none."""
        return take(self.raw["group"], self.raw_rows[rows])

    def table(self, rows: Rows) -> pa.Table:
        """Return id, inputs and target of some rows.

        Args:
            rows: row numbers.

        Returns:
            A table in the order of the roles of the task.
        """
        columns = {name: self.values(name, rows) for name in base.input_names(self.schema)}
        target = target_role(self.schema)
        target_values = pa.array(self.target_values, target.field.arrow)
        columns[target.name] = target_values.take(pa.array(self.target_ids[rows]))
        table = {"id": take(self.raw["id"], self.raw_rows[rows])}
        for role in self.schema.roles:
            if role.name in columns:
                table[role.name] = columns[role.name]
        return pa.table(table)

    def unlabelled(self, rows: Rows) -> pa.Table:
        """Return id and inputs of some raw rows, which have no target."""
        columns = {"id": take(self.raw["id"], rows)}
        for name in base.input_names(self.schema):
            columns[name] = self.unique_rows.values(name, rows, self.schema_type(name))
        return pa.table(columns)

    def replace_targets(self, merged: Mapping[Any, Any]) -> None:
        """Give targets another value, which several may share.

        Args:
            merged: target -> its new value; the others stay.
        """
        new_values = [merged.get(value, value) for value in self.target_values]
        values = sorted(set(new_values))
        number_of = {value: number for number, value in enumerate(values)}
        numbers = np.array([number_of[value] for value in new_values])
        self.target_ids = numbers[self.target_ids]
        self.target_values = values

    def described(self, rows: Rows, dedup_status: NDArray[np.int8]) -> Iterator[list[Rejected]]:
        """Yield dropped rows for the quarantine, part by part.

        Args:
            rows: that are dropped.
            dedup_status: (all rows,) numbers of REASONS.
        """
        for window in self.windows(rows):
            yield self._described(window, dedup_status[window].tolist())

    def _described(self, rows: Rows, statuses: Sequence[int]) -> list[Rejected]:
        """Return dropped rows for the quarantine.

        Args:
            rows: that are dropped.
            statuses: (rows,) numbers of REASONS.
        """
        origins = take(self.raw["origin"], self.raw_rows[rows])
        table = self.table(rows).append_column("origin", origins)
        first = base.input_names(self.schema)[0]
        target = target_of(self.schema)
        reason_of = reasons(self.schema.targets.conflict_reason)
        return [
            {
                "id": row["id"],
                "origin": row["origin"],
                target: _text(row[target]),
                "reason": reason_of[status],
                "excerpt": _excerpt(row[first], ""),
            }
            for row, status in zip(table.to_pylist(), statuses, strict=True)
        ]

    def schema_type(self, name: str) -> pa.DataType:
        """Return the type of a column."""
        return next(role.field.arrow for role in self.schema.roles if role.name == name)


def usable_rows(raw: pa.Table, unique_rows: UniqueRows, schema: base.Schema) -> Usable:
    """Return the rows that can be used.

    Args:
        raw: the raw table.
        unique_rows: its cleaned contents.
        schema: of the task.

    Raises:
        InputError: there is none, or an id occurs more than once.
    """
    raw_rows = unique_rows.where("fate", USABLE)
    if not len(raw_rows):
        # The message has no excerpts, so the params of the fields do not matter.
        fields = {role.name: role.field for role in schema.roles}
        raise _no_usable_row(rejected_rows(raw, unique_rows, schema, fields))
    _check_ids(take(raw["id"], raw_rows))
    target_ids, target_values = unique_rows.coded("target", raw_rows)
    splits, own_splits = unique_rows.coded("split", raw_rows)
    # The last one is for -1, a row without a split.
    numbers = np.array([*(OWN_SPLITS.index(name) for name in own_splits.to_pylist()), 0])
    return Usable(
        raw=raw,
        unique_rows=unique_rows,
        schema=schema,
        raw_rows=raw_rows,
        unlabeled_rows=unique_rows.where("fate", UNLABELLED),
        key_ids=unique_rows.codes("key", raw_rows),
        target_ids=target_ids,
        target_values=target_values.to_pylist(),
        splits=numbers[splits],
        has_splits=bool(numbers[splits].any()),
    )


def _no_usable_row(rejected: Iterable[list[Rejected]]) -> InputError:
    """Return the error of a table without a usable row."""
    reasons: Counter[str] = Counter()
    first = ""
    for part in rejected:
        reasons.update(entry["reason"] for entry in part)
        first = first or f"; the first: {part[0]['origin']}"
    return InputError(
        f"no row can be used: {dict(reasons)}{first}",
        where="clean",
        remedy="look at the source and at ingest.columns, then run the same command again",
    )


def _check_ids(ids: pa.Array) -> None:
    """Check that ids are unique.

    Raises:
        InputError: an id occurs more than once.
    """
    if pc.count_distinct(ids, mode="all").as_py() == len(ids):
        return
    counts = Counter(ids.to_pylist())
    repeated = next(name for name, count in counts.items() if count > 1)
    raise InputError(
        f"id {repeated!r} stands more than once",
        where="ingest.columns.id",
        remedy="name another column as id, or none",
    )


def rejected_rows(
    raw: pa.Table,
    unique_rows: UniqueRows,
    schema: base.Schema,
    fields: Mapping[str, Field],
) -> Iterator[list[Rejected]]:
    """Yield the rows that are neither usable nor kept without a target, part by part.

    Args:
        raw: the raw table.
        unique_rows: its cleaned contents.
        schema: of the task.
        fields: of all columns. Those of texts know which personal data are kept out.
    """
    accepted = np.concatenate(
        [
            unique_rows.where("fate", USABLE),
            unique_rows.where("fate", UNLABELLED),
        ]
    )
    is_rejected = np.ones(raw.num_rows, bool)
    is_rejected[accepted] = False
    for window in unique_rows.windows(np.flatnonzero(is_rejected)):
        yield _rejected(raw, unique_rows, schema, fields, window)


def _rejected(
    raw: pa.Table,
    unique_rows: UniqueRows,
    schema: base.Schema,
    fields: Mapping[str, Field],
    rows: Rows,
) -> list[Rejected]:
    """Return some raw rows for the quarantine (see `rejected_rows`)."""
    reasons = unique_rows.column("fate", rows).to_pylist()
    details = unique_rows.column("detail", rows).to_pylist()
    first = base.input_names(schema)[0]
    target = target_of(schema)
    columns = ("id", "origin", first, target)
    table = {name: take(raw[name], rows).to_pylist() for name in columns}
    field = fields[first]
    entries: list[Rejected] = []
    for index, reason in enumerate(reasons):
        value = table[first][index]
        if isinstance(value, str) and isinstance(field, Text):
            value = field.redacted(value)
        entries.append(
            {
                "id": table["id"][index],
                "origin": table["origin"][index],
                target: _text(table[target][index]),
                "reason": reason,
                "excerpt": _excerpt(value, details[index]),
            }
        )
    return entries


def _text(target: object) -> str:
    """Return a target as text; it is empty where there is none."""
    return "" if target is None else str(target)


def _excerpt(value: object, otherwise: str) -> str:
    """Return the beginning of a text, or something else for a value that is no text."""
    return value[:_EXCERPT] if isinstance(value, str) else otherwise
