"""Encode rows of a table with class numbers as targets."""

from __future__ import annotations

import pyarrow as pa

from components.tasks.shared.encode.tables.table_encoder import TableEncoder, TableEncoding
from components.tasks.shared.schema.classification.rules import ClassNames


class ClassTableEncoder(TableEncoder):
    """A target is the number of its class, and a network has an output for each class."""

    @property
    def outputs(self) -> int:  # type: ignore[override]
        """Return the number of classes."""
        return len(self.targets["classes"])

    def encode_targets(self, rows: pa.Table) -> pa.Array:
        """Return the class numbers (n,), -1 for a row without a label."""
        index = {name: number for number, name in enumerate(self.targets["classes"])}
        index |= {None: -1}
        return pa.array([index[name] for name in rows["label"].to_pylist()], pa.int64())


ENCODING = TableEncoding(ClassTableEncoder, ClassNames)
