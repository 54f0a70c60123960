"""The rows of the raw table that can be used, as numbers and columns; and the others, with why not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from components.core.errors import InputError
from components.stages.clean.cleaning import UNLABELLED, USABLE, inputs_of, target_of
from components.stages.clean.duplicates import OWN_SPLITS, REASONS, Rows
from components.stages.clean.unique_rows import Pool
from components.tasks import base


@dataclass
class Usable:
    """Rows with a label, counted from 0 in the source's order."""

    raw: pa.Table
    pool: Pool
    schema: base.Schema
    place: Rows  # (rows,) in the raw table
    nameless: Rows  # places of rows without a label that are kept
    equal: Rows  # (rows,) the same number for rows whose inputs count as the same
    labels: Rows  # (rows,) numbers of `names`
    names: list[str]  # of classes
    splits: Rows  # (rows,) the source's own, numbers of OWN_SPLITS

    def keys(self, rows: Rows | None = None) -> list[str]:
        """SHA-256 of the keys of some rows, or of all."""
        return [
            key.hex()
            for key in self.pool.column(
                "key", self.place if rows is None else self.place[rows]
            ).to_pylist()
        ]

    def contents(self, rows: Rows) -> pa.Array:
        """SHA-256 of the raw contents of some rows."""
        return self.pool.column("content", self.place[rows])

    def column(self, name: str, rows: Rows) -> list[Any]:
        """A column of the pool for some rows."""
        return list(self.pool.column(name, self.place[rows]).to_pylist())

    def ids(self) -> list[str]:
        """Of all rows."""
        return list(_taken(self.raw, "id", self.place).to_pylist())

    def values(self, name: str, rows: Rows) -> pa.ChunkedArray:
        """Cleaned values of an input column."""
        return self.pool.values(name, self.place[rows], self.schema_type(name))

    def changes(self) -> Iterator[tuple[str, int]]:
        """Yield what cleaning took from the rows that can be used (see `Pool.changes`)."""
        return self.pool.changes(np.concatenate([self.place, self.nameless]))

    def origins(self, rows: Rows) -> list[str]:
        """Return where some rows come from."""
        return list(_taken(self.raw, "origin", self.place[rows]).to_pylist())

    def bands(self, name: str, rows: Rows) -> tuple[Rows, NDArray[np.uint64]]:
        """Signatures of an input column (see `Pool.bands`)."""
        return self.pool.bands(name, self.place[rows])

    def groups(self, rows: Rows) -> Iterator[tuple[int, str]]:
        """Positions among `rows` with the source's own group key, and that."""
        found = _taken(self.raw, "group", self.place[rows])
        for position in np.flatnonzero(found.is_valid().to_numpy(zero_copy_only=False)).tolist():
            yield position, found[position].as_py()

    def table(self, rows: Rows) -> pa.Table:
        """Id, inputs and label of some rows."""
        label = pa.array(self.names, pa.string()).take(pa.array(self.labels[rows]))
        facts = {target_of(self.schema): label} | {
            name: self.values(name, rows) for name in inputs_of(self.schema)
        }
        return pa.table(
            {"id": _taken(self.raw, "id", self.place[rows])}
            | {role.name: facts[role.name] for role in self.schema.roles if role.name in facts}
        )

    def unlabelled(self) -> tuple[pa.Table, pa.Array]:
        """Id and inputs of the rows without a label, and their keys."""
        inputs = {
            name: self.pool.values(name, self.nameless, self.schema_type(name))
            for name in inputs_of(self.schema)
        }
        return pa.table({"id": _taken(self.raw, "id", self.nameless), **inputs}), self.pool.column(
            "key", self.nameless
        )

    def all_keys(self) -> set[bytes]:
        """Of the rows with a label; asked for only where others have none."""
        return set(self.pool.column("key", self.place).to_pylist()) if len(self.nameless) else set()

    def rename(self, merged: Mapping[str, str]) -> None:
        """Give classes another name, which several may share."""
        names = sorted({merged.get(name, name) for name in self.names})
        self.labels = np.array([names.index(merged.get(name, name)) for name in self.names])[
            self.labels
        ]
        self.names = names

    def described(self, rows: Rows, dedup_status: NDArray[np.int8]) -> list[dict[str, str]]:
        """Rows that go, for quarantine."""
        origins = _taken(self.raw, "origin", self.place[rows])
        table = self.table(rows).append_column("origin", origins)
        first, target = inputs_of(self.schema)[0], target_of(self.schema)
        return [
            {
                "id": row["id"],
                "origin": row["origin"],
                "label": row[target],
                "reason": REASONS[fate],
                "excerpt": _excerpt(row[first], ""),
            }
            for row, fate in zip(table.to_pylist(), dedup_status[rows].tolist(), strict=True)
        ]

    def schema_type(self, name: str) -> pa.DataType:
        """The type of a column."""
        return next(role.field.arrow for role in self.schema.roles if role.name == name)


def usable_rows(raw: pa.Table, pool: Pool, schema: base.Schema) -> Usable:
    """Find them.

    Raises:
        InputError: there is none, or an id stands more than once.
    """
    place = pool.where("fate", USABLE)
    if not len(place):
        rejected = rejected_rows(raw, pool, schema)
        reasons = Counter(entry["reason"] for entry in rejected)
        first = f"; the first: {rejected[0]['origin']}" if rejected else ""
        raise InputError(
            f"no row can be used: {dict(reasons)}{first}",
            where="clean",
            remedy="look at the source and at ingest.columns, then run the same command again",
        )
    ids = _taken(raw, "id", place)
    if pc.count_distinct(ids, mode="all").as_py() != len(ids):
        twice = next(name for name, count in Counter(ids.to_pylist()).items() if count > 1)
        raise InputError(
            f"id {twice!r} stands more than once",
            where="ingest.columns.id",
            remedy="name another column as id, or none",
        )
    labels, names = pool.coded("target", place)
    splits, own = pool.coded("split", place)
    numbers = np.array(
        [*(OWN_SPLITS.index(name) for name in own), 0]
    )  # -1, which is none, finds the last
    return Usable(
        raw,
        pool,
        schema,
        place,
        pool.where("fate", UNLABELLED),
        pool.coded("key", place)[0],
        labels,
        names,
        numbers[splits],
    )


def rejected_rows(raw: pa.Table, pool: Pool, schema: base.Schema) -> list[dict[str, str]]:
    """Rows that are neither usable nor kept without a label, for quarantine."""
    gone = np.flatnonzero(
        ~np.isin(
            np.arange(raw.num_rows),
            np.concatenate([pool.where("fate", USABLE), pool.where("fate", UNLABELLED)]),
        )
    )
    first, target = inputs_of(schema)[0], target_of(schema)
    facts = {name: _taken(raw, name, gone).to_pylist() for name in ("id", "origin", first, target)}
    dedup_status, details = (pool.column(name, gone).to_pylist() for name in ("fate", "detail"))
    return [
        {
            "id": name,
            "origin": origin,
            "label": label or "",
            "reason": fate,
            "excerpt": _excerpt(shown, detail),
        }
        for name, origin, shown, label, fate, detail in zip(
            facts["id"],
            facts["origin"],
            facts[first],
            facts[target],
            dedup_status,
            details,
            strict=True,
        )
    ]


def _excerpt(shown: object, otherwise: str) -> str:
    return shown[:200] if isinstance(shown, str) else otherwise


def _taken(raw: pa.Table, name: str, rows: Rows) -> pa.Array:
    taken = raw[name].take(pa.array(rows))
    return taken.combine_chunks() if isinstance(taken, pa.ChunkedArray) else taken
