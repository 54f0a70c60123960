"""Rows without a target: a language model can be pretrained on them."""

from __future__ import annotations

from collections.abc import Set

import pyarrow as pa

SPLIT = "unlabelled"


def is_for_training(split: str | None) -> bool:
    """Return whether a row's own split allows to train on it."""
    return (split or SPLIT).strip().lower() in (SPLIT, "train", "training")


def split_unlabeled(
    rows: pa.Table,
    keys: pa.Array,
    known: Set[bytes],
    target: str,
    schema: pa.Schema,
) -> tuple[dict[str, pa.Table], int]:
    """Return the split of the rows without a target, and how many were dropped as duplicates.

    A duplicate equals another row without a target, or a row with one. So no text of the test split
    is among them.

    Args:
        rows: id and cleaned inputs.
        keys: (rows,) equal for rows whose inputs count as the same, SHA-256.
        known: keys of the rows with a target.
        target: the column without a value.
        schema: of the split.

    Returns:
        {SPLIT: table}, or {} if no row is left; and the number of duplicates.
    """
    first: dict[bytes, int] = {}
    for row, key in enumerate(keys.to_pylist()):
        if key not in known:
            first.setdefault(key, row)
    if not first:
        return {}, rows.num_rows
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
    return {SPLIT: table}, rows.num_rows - len(first)
