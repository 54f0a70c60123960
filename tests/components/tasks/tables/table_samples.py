"""Small tables of diamonds, and an encoder of numbers as targets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from pydantic import BaseModel

from components.core.params import Strict
from components.fields.moment import moment_text
from components.tasks.shared.encode.tables.table_encoder import (
    TableEncoder,
    TableEncoding,
    TableTokenize,
)
from components.tasks.shared.schema.tables.kinds import parse_inputs

INPUTS: Mapping[str, Any] = {
    "carat": "number",
    "depth": {"kind": "number", "decimal": ","},
    "cut": "category",
    "sold": {"kind": "time", "order": "dmy"},
}
KINDS = parse_inputs(dict(INPUTS))
# The years 2023 to 2025.
START = 1_672_531_200.0
SECONDS = 3 * 365 * 86_400
CUTS = ["Ideal", "Premium", "Good", "Fair"]


class Center(BaseModel):
    """Mean and deviation of the targets."""

    center: list[float]
    scale: list[float]


class PriceEncoder(TableEncoder):
    """An encoder of prices."""

    outputs = 1

    def encode_targets(self, rows: pa.Table) -> pa.Array:
        """Return the prices as they are, NaN where there is none."""
        return pa.array(rows["price"].to_numpy().astype(np.float32))


ENCODING = TableEncoding(PriceEncoder, Center)
TARGETS: Mapping[str, Any] = {"center": [0.0], "scale": [1.0]}


def diamonds(count: int, seed: int = 0) -> pa.Table:
    """Return clean rows, whose depth is missing now and then."""
    rng = np.random.default_rng(seed)
    carat = rng.lognormal(-0.5, 0.6, count).round(2)
    depth = rng.normal(61.0, 1.4, count).round(1)
    cut = rng.choice(len(CUTS), count, p=[0.5, 0.3, 0.15, 0.05])
    sold = START + rng.integers(0, SECONDS, count)
    return pa.table(
        {
            "id": [f"row-{number}" for number in range(count)],
            "carat": carat,
            "depth": pa.array(depth, mask=rng.random(count) < 0.1),
            "cut": [CUTS[index] for index in cut],
            "sold": [moment_text(moment) for moment in sold.tolist()],
            "price": np.log(carat) - 0.2 * cut,
        }
    )


def fitted(rows: pa.Table, inputs: Mapping[str, Any] = INPUTS) -> PriceEncoder:
    """Return the encoder of train rows."""
    return ENCODING.fit(
        iter(rows.to_batches(max_chunksize=64)), TARGETS, TableTokenize(), Strict(), inputs
    )
