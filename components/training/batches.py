"""Hold encoded rows in memory and decide which of them make a batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from components.core.tables import read_manifest, read_table
from components.tasks import base
from components.tasks.base import Arrays, Encoder

# Batches whose rows are sorted by length together.
_WINDOW = 100
Numbers = NDArray[np.int64]
# The teacher's outputs in a batch (n, ...).
TEACHER = "teacher"


def load_encoder(tokens: Path, task: str) -> Encoder:
    """Return the encoder that wrote the folder `tokens`."""
    names = read_manifest(tokens)["encoder"]
    files = {name: (tokens / "encoder" / name).read_bytes() for name in names}
    return base.encoding(task).load(files)


class EncodedRows:
    """Rows of one or more splits. Ragged columns are flat arrays with offsets.

    Args:
        tokens: the folder of encoded tables.
        split: the name of a split, or several names.
        encoder: the encoder that wrote the folder.
    """

    def __init__(self, tokens: Path, split: str | Sequence[str], encoder: Encoder) -> None:
        splits = [split] if isinstance(split, str) else split
        table = pa.concat_tables([read_table(tokens, name) for name in splits])
        self.encoder = encoder
        self.lengths = encoder.lengths(table)
        self.target: Numbers = table["target"].to_numpy()
        # (n,) of the rows, which batches have as "weight" where they are given.
        self.weights: NDArray[np.float32] | None = None
        # (n, ...) of the rows, which batches have as TEACHER where they are given.
        self.teacher: NDArray[np.float32] | None = None
        self._ragged: dict[str, tuple[NDArray[Any], Numbers]] = {}
        for name in table.column_names:
            if pa.types.is_list(table.schema.field(name).type):
                self._ragged[name] = _flatten(table[name])

    def __len__(self) -> int:
        return len(self.target)

    def batch(self, rows: Sequence[int] | Numbers, packed: bool = False) -> Arrays:
        """Return rows as arrays with "target" (n,).

        Args:
            rows: (n,) row numbers.
            packed: concatenate the rows instead of padding them.
        """
        columns: dict[str, list[NDArray[Any]]] = {}
        for name, (flat, offsets) in self._ragged.items():
            columns[name] = [flat[offsets[row] : offsets[row + 1]] for row in rows]
        arrays = self.encoder.pack(columns) if packed else self.encoder.collate(columns)
        numbers = np.asarray(rows)
        result = {**arrays, "target": self.target[numbers]}
        if self.weights is not None:
            result["weight"] = self.weights[numbers]
        if self.teacher is not None:
            result[TEACHER] = self.teacher[numbers]
        return result


def _flatten(column: pa.ChunkedArray) -> tuple[NDArray[Any], Numbers]:
    """Return a list column as its flat values and the (n + 1,) offsets of its rows."""
    array = column.combine_chunks()
    if isinstance(array, pa.ChunkedArray):
        array = array.chunk(0)
    return array.values.to_numpy(), array.offsets.to_numpy().astype(np.int64)


def plan(
    lengths: Numbers, batch_size: int, seed: int, epoch: int, tokens: int | None = None
) -> list[Numbers]:
    """Return the batches of an epoch.

    Every row occurs exactly once, and rows of similar length are together. Seed and epoch
    decide the order.

    Args:
        lengths: (n,) cost of each row.
        batch_size: rows of the largest batch. Sizes differ by at most one.
        seed: of the random order.
        epoch: number of the epoch, from 0.
        tokens: limit for a batch. A batch that has more is divided.

    Returns:
        (k,) row numbers of each batch, short rows first. The result is the same for every
        worker, and each worker takes its share of each batch.
    """
    rng = np.random.default_rng([seed, epoch])
    count = -(-len(lengths) // batch_size)
    order = rng.permutation(len(lengths))
    bounds = np.linspace(0, len(order), count + 1).round().astype(np.int64)
    for start in range(0, count, _WINDOW):
        window = slice(bounds[start], bounds[min(start + _WINDOW, count)])
        order[window] = order[window][np.argsort(lengths[order[window]], kind="stable")]
    batches: list[Numbers] = []
    for first, end in pairwise(bounds):
        batches += within(order[first:end], lengths, tokens)
    return [batches[i] for i in rng.permutation(len(batches))]


def within(rows: Numbers, lengths: Numbers, tokens: int | None) -> Iterator[Numbers]:
    """Yield the rows in order, in as few parts as possible of at most `tokens` tokens each.

    A row that is longer than the limit is a part of its own.

    Args:
        rows: (n,) row numbers.
        lengths: tokens of each row of the split.
        tokens: the limit. None: one part.
    """
    if tokens is None:
        yield rows
        return
    start = 0
    used = 0
    for index, cost in enumerate(lengths[rows]):
        if used and used + cost > tokens:
            yield rows[start:index]
            start = index
            used = 0
        used += int(cost)
    yield rows[start:]


def in_order(lengths: Numbers, batch_size: int) -> list[Numbers]:
    """Return all rows sorted by length, in batches. Used for validation.

    Args:
        lengths: (n,) cost of each row.
        batch_size: rows of a batch.
    """
    order = np.argsort(lengths, kind="stable")
    return [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
