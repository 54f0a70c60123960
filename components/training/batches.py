"""Map encoded rows into memory and decide which of them make a batch."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from components.core.tables import batches_of, read_manifest
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

    The flat arrays are mapped from files, so memory does not grow with them.

    Args:
        tokens: the folder of encoded tables.
        split: the name of a split, or several names.
        encoder: the encoder that wrote the folder.
    """

    def __init__(self, tokens: Path, split: str | Sequence[str], encoder: Encoder) -> None:
        splits = [split] if isinstance(split, str) else split
        self.encoder = encoder
        lengths = [np.empty(0, np.int64)]
        targets = [np.empty(0, np.int64)]
        columns: dict[str, _FlatColumn] = {}
        for batch in chain.from_iterable(batches_of(tokens, name) for name in splits):
            lengths.append(encoder.lengths(pa.Table.from_batches([batch])))
            targets.append(batch["target"].to_numpy(zero_copy_only=False))
            for field in batch.schema:
                if pa.types.is_list(field.type):
                    if field.name not in columns:
                        columns[field.name] = _FlatColumn(tokens.parent, field.type.value_type)
                    columns[field.name].add(batch[field.name])
        # The first, empty ones would decide the type of the numbers.
        self.lengths = np.concatenate(lengths[1:] or lengths)
        self.target: Numbers = np.concatenate(targets[1:] or targets)
        self._ragged = {name: column.mapped() for name, column in columns.items()}
        # (n,) of the rows, which batches have as "weight" where they are given.
        self.weights: NDArray[np.float32] | None = None
        # (n, ...) of the rows, which batches have as TEACHER where they are given.
        self.teacher: NDArray[np.float32] | None = None

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


class _FlatColumn:
    """The values of a list column in a file without a name.

    Args:
        folder: that holds the file; if nothing can be written there, the system's one does.
        kind: type of the values.
    """

    def __init__(self, folder: Path, kind: pa.DataType) -> None:
        place = folder if os.access(folder, os.W_OK) else None
        # The mapping holds the file open.
        self._file = tempfile.TemporaryFile(dir=place)  # noqa: SIM115
        self._kind = kind.to_pandas_dtype()
        self._sizes = [np.zeros(1, np.int64)]

    def add(self, lists: pa.ListArray) -> None:
        """Add the values of rows.

        Raises:
            OSError: the disk is full.
        """
        # `tofile` says nothing when the disk is full.
        self._file.write(lists.flatten().to_numpy().data)
        self._sizes.append(lists.value_lengths().to_numpy().astype(np.int64))

    def mapped(self) -> tuple[NDArray[Any], Numbers]:
        """Return the flat values, mapped from the file, and the (n + 1,) offsets of the rows.

        Raises:
            OSError: the disk is full.
        """
        self._file.flush()
        offsets = np.cumsum(np.concatenate(self._sizes))
        if not offsets[-1]:
            return np.empty(0, self._kind), offsets
        # A plain array, whose slices are made faster than those of a `numpy.memmap`.
        return np.asarray(np.memmap(self._file, self._kind, "r")), offsets


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
