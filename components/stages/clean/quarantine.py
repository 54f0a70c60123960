"""Rows that clean sets aside, with reasons and excerpts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from components.core.mapped_tables import take_rows, windows, write_mapped
from components.core.tables import ROWS_PER_SHARD, TableWriter

# A row of the quarantine, by column.
Rejected = Mapping[str, str]


class Quarantine:
    """Rows that are set aside. They lie in files, because they may be most rows of a source.

    Args:
        folder: for the files.
        target: the column that a model predicts.
    """

    def __init__(self, folder: Path, target: str) -> None:
        names = ("id", "origin", target, "reason", "excerpt")
        self._schema = pa.schema([(name, pa.string()) for name in names])
        self._folder = folder
        self._rows = self._schema.empty_table()

    def add(self, parts: Iterable[list[Rejected]], name: str) -> pa.Table:
        """Add rows, and return them.

        Args:
            parts: of the rows.
            name: of their file.
        """
        tables = (pa.Table.from_pylist(part, schema=self._schema) for part in parts)
        rows = write_mapped(tables, self._schema, self._folder / f"{name}.arrow")
        self._rows = pa.concat_tables([self._rows, rows])
        return rows

    def reasons(self) -> Counter[str]:
        """Return the number of rows by reason."""
        counts = self._rows["reason"].value_counts().to_pylist()
        return Counter({entry["values"]: entry["counts"] for entry in counts})

    def write(self, folder: Path) -> None:
        """Write the rows as a table, in the order of reason, origin and id."""
        keys = [(name, "ascending") for name in ("reason", "origin", "id")]
        order = pc.sort_indices(self._rows, sort_keys=keys).to_numpy().astype("int64")
        writer = TableWriter(folder)
        writer.write("rows", self._schema.empty_table())
        for window in windows(order, ROWS_PER_SHARD):
            writer.write("rows", take_rows(self._rows, window))
        writer.close()
