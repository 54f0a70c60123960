"""Encode rows of a table with standardized numbers as targets."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from components.tasks.shared.encode.tables.table_encoder import TableEncoder, TableEncoding
from components.tasks.shared.schema.regression.number_targets import StandardizedNumbers


class NumberTableEncoder(TableEncoder):
    """A target is (value - center) / scale, and a network has one output."""

    outputs = 1

    def encode_targets(self, rows: pa.Table) -> pa.Array:
        """Return the standardized targets (n,) float32, NaN for a row without one."""
        values = rows["target"].to_numpy().astype(np.float64)
        center = self.targets["center"][0]
        scale = self.targets["scale"][0]
        return pa.array(((values - center) / scale).astype(np.float32))


ENCODING = TableEncoding(NumberTableEncoder, StandardizedNumbers)
