"""Encoded rows in memory, and which of them make a batch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from components.core.tables import read_manifest, read_table
from components.tasks import base
from components.tasks.base import Arrays, Encoder

_WINDOW = 100  # batches that are sorted by length together
Numbers = NDArray[np.int64]


def load_encoder(tokens: Path, task: str) -> Encoder:
    """The encoder that wrote `tokens`."""
    names = read_manifest(tokens)["encoder"]
    return base.encoding(task).load(
        {name: (tokens / "encoder" / name).read_bytes() for name in names}
    )


class EncodedRows:
    """Splits of tokens: ragged columns as flat memory and offsets, so that a row is a slice.

    Args:
        balanced: add "weight" (n,) to batches: rows of each class weigh together alike.
    """

    def __init__(
        self, tokens: Path, split: str | Sequence[str], encoder: Encoder, balanced: bool = False
    ) -> None:
        table = pa.concat_tables(
            [read_table(tokens, each) for each in ([split] if isinstance(split, str) else split)]
        )
        self.encoder = encoder
        self.lengths = encoder.lengths(table)
        self.target: Numbers = table["target"].to_numpy()
        self._weights: NDArray[np.float32] | None = (
            balance(self.target, len(encoder.classes)) if balanced else None
        )
        self._ragged: dict[str, tuple[NDArray[Any], Numbers]] = {}
        for name in table.column_names:
            if pa.types.is_list(table.schema.field(name).type):
                column = table[name].combine_chunks()
                column = column.chunk(0) if isinstance(column, pa.ChunkedArray) else column
                self._ragged[name] = (
                    column.values.to_numpy(),
                    column.offsets.to_numpy().astype(np.int64),
                )

    def __len__(self) -> int:
        return len(self.target)

    def batch(self, rows: Sequence[int] | Numbers, packed: bool = False) -> Arrays:
        """The rows as arrays, padded or laid end to end, with "target" (n,)."""
        columns: Mapping[str, list[NDArray[Any]]] = {
            name: [flat[offsets[row] : offsets[row + 1]] for row in rows]
            for name, (flat, offsets) in self._ragged.items()
        }
        arrays = self.encoder.pack(columns) if packed else self.encoder.collate(columns)
        target = self.target[np.asarray(rows)]
        return (
            {**arrays, "target": target}
            if self._weights is None
            else {**arrays, "target": target, "weight": self._weights[target]}
        )


def balance(target: Numbers, classes: int) -> NDArray[np.float32]:
    """(classes,) weights inverse to how often a class occurs, of mean 1 over the rows."""
    counts = np.bincount(target, minlength=classes)
    weights: NDArray[np.float32] = (
        len(target) / (max(1, np.count_nonzero(counts)) * np.maximum(counts, 1))
    ).astype(np.float32)
    return weights


def plan(
    lengths: Numbers, batch_size: int, seed: int, epoch: int, tokens: int | None = None
) -> list[Numbers]:
    """The batches of an epoch: every row exactly once, rows of like length together, in an order that seed and epoch decide.

    Args:
        lengths: (n,) cost of each row.
        batch_size: rows of the largest batch; sizes differ by at most one, so no batch is a crumb.
        tokens: of the largest batch; one that has more is cut in as many parts as it takes.

    Returns:
        Row numbers, one array a batch, short rows first. The same for every worker, who takes its share of each.
    """
    rng = np.random.default_rng([seed, epoch])
    count = -(-len(lengths) // batch_size)
    order = rng.permutation(len(lengths))
    bounds = np.linspace(0, len(order), count + 1).round().astype(np.int64)
    for start in range(0, count, _WINDOW):
        piece = slice(bounds[start], bounds[min(start + _WINDOW, count)])
        order[piece] = order[piece][np.argsort(lengths[order[piece]], kind="stable")]
    batches = [part for a, b in pairwise(bounds) for part in within(order[a:b], lengths, tokens)]
    return [batches[i] for i in rng.permutation(len(batches))]


def within(rows: Numbers, lengths: Numbers, tokens: int | None) -> Iterator[Numbers]:
    """The rows in order, in as few parts as keep each to so many tokens; a row that is longer by itself is a part."""
    if tokens is None:
        yield rows
        return
    start, used = 0, 0
    for place, cost in enumerate(lengths[rows]):
        if used and used + cost > tokens:
            yield rows[start:place]
            start, used = place, 0
        used += int(cost)
    yield rows[start:]


def in_order(lengths: Numbers, batch_size: int) -> list[Numbers]:
    """All rows sorted by length in batches: for validation."""
    order = np.argsort(lengths, kind="stable")
    return [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
