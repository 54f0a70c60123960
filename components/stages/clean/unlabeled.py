"""Rows without a target: they serve pretraining and distillation."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass

import pyarrow as pa

SPLIT = "unlabelled"


def is_for_training(split: str | None) -> bool:
    """Return whether a row's own split allows to train on it."""
    return (split or SPLIT).strip().lower() in (SPLIT, "train", "training")


@dataclass(frozen=True)
class UnlabeledSplit:
    """The split of the rows without a target, and what was dropped.

    Args:
        parts: {SPLIT: table}, or {} if no row is left.
        duplicates: rows that equal another row without a target, or a row with one.
        held_out: further rows, in groups of the source that have a row of validation or test.
    """

    parts: dict[str, pa.Table]
    duplicates: int
    held_out: int


def split_unlabeled(
    rows: pa.Table,
    keys: pa.Array,
    known: Set[bytes],
    held_out: Set[str],
    target: str,
    schema: pa.Schema,
) -> UnlabeledSplit:
    """Return the split of the rows without a target.

    No text of the held-out splits is among them, and none of their groups.

    Args:
        rows: id, cleaned inputs, and "group" of the source, which may be null.
        keys: (rows,) equal for rows whose inputs count as the same, SHA-256.
        known: keys of the rows with a target.
        held_out: groups of the source that have a row of validation or test.
        target: the column without a value.
        schema: of the split.
    """
    first: dict[bytes, int] = {}
    left_out = 0
    groups = rows["group"].to_pylist()
    for row, (key, group) in enumerate(zip(keys.to_pylist(), groups, strict=True)):
        if group in held_out:
            left_out += 1
        elif key not in known:
            first.setdefault(key, row)
    duplicates = rows.num_rows - left_out - len(first)
    if not first:
        return UnlabeledSplit({}, duplicates, left_out)
    chosen = rows.take(pa.array(list(first.values()), pa.int64()))
    added = {
        target: pa.nulls(len(first), schema.field(target).type),
        "split": [SPLIT] * len(first),
        "group": [key.hex()[:16] for key in first],
    }
    columns = {}
    for name in schema.names:
        if name in added:
            columns[name] = added[name]
        elif name in chosen.column_names:
            columns[name] = chosen[name]
        else:
            columns[name] = pa.nulls(len(first), schema.field(name).type)
    table = pa.table(columns, schema=schema)
    return UnlabeledSplit({SPLIT: table}, duplicates, left_out)
