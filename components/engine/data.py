"""Encoded rows in memory, and which of them make a batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from components.core.tables import read_manifest, read_table
from components.tasks import base
from components.tasks.base import Arrays, Encoder

_WINDOW = 50  # batches that are sorted by length together


def load_encoder(tokens: Path, task: str) -> Encoder:
    """The encoder that wrote `tokens`."""
    names = read_manifest(tokens)["encoder"]
    return base.encoding(task).load({name: (tokens / "encoder" / name).read_bytes() for name in names})


class Rows:
    """A split of tokens: ragged columns as flat memory and offsets, so that a row is a slice."""

    def __init__(self, tokens: Path, split: str, encoder: Encoder) -> None:
        table = read_table(tokens, split)
        self.encoder = encoder
        self.lengths = encoder.lengths(table)
        self.target: NDArray[np.int64] = table["target"].to_numpy()
        self._ragged: dict[str, tuple[NDArray[Any], NDArray[np.int64]]] = {}
        for name in table.column_names:
            if pa.types.is_list(table.schema.field(name).type):
                column = table[name].combine_chunks()
                column = column.chunk(0) if isinstance(column, pa.ChunkedArray) else column
                self._ragged[name] = (column.values.to_numpy(), column.offsets.to_numpy().astype(np.int64))

    def __len__(self) -> int:
        return len(self.target)

    def batch(self, rows: Sequence[int] | NDArray[np.int64]) -> Arrays:
        """The rows as padded arrays, with "target" (n,)."""
        columns: Mapping[str, list[NDArray[Any]]] = {name: [flat[offsets[row] : offsets[row + 1]] for row in rows] for name, (flat, offsets) in self._ragged.items()}
        return {**self.encoder.collate(columns), "target": self.target[np.asarray(rows)]}


def plan(lengths: NDArray[np.int64], batch_size: int, seed: int, epoch: int) -> list[NDArray[np.int64]]:
    """The batches of an epoch: every row exactly once, rows of like length together, in an order that seed and epoch decide.

    Args:
        lengths: (n,) cost of each row.
        batch_size: rows of the largest batch; sizes differ by at most one, so no batch is a crumb.

    Returns:
        Row numbers, one array a batch. The same for every worker, who takes its share of each.
    """
    rng = np.random.default_rng([seed, epoch])
    count = -(-len(lengths) // batch_size)
    order = rng.permutation(len(lengths))
    bounds = np.linspace(0, len(order), count + 1).round().astype(np.int64)
    for start in range(0, count, _WINDOW):
        piece = slice(bounds[start], bounds[min(start + _WINDOW, count)])
        order[piece] = order[piece][np.argsort(lengths[order[piece]], kind="stable")]
    batches = [order[a:b] for a, b in pairwise(bounds)]
    return [batches[i] for i in rng.permutation(count)]


def in_order(lengths: NDArray[np.int64], batch_size: int) -> list[NDArray[np.int64]]:
    """All rows sorted by length in batches: for validation."""
    order = np.argsort(lengths, kind="stable")
    return [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
