"""Rows without a label: no use for a classifier, but text to learn a language from."""

from __future__ import annotations

from collections.abc import Set

import pyarrow as pa

SPLIT = "unlabelled"


def may_be_learnt(split: str | None) -> bool:
    """Whether a row's own split says that it is to be learned from, not judged."""
    return (split or SPLIT).strip().lower() in (SPLIT, "train", "training")


def settle(
    rows: pa.Table, keys: pa.Array, labelled: Set[bytes], target: str, schema: pa.Schema
) -> tuple[dict[str, pa.Table], int]:
    """The split of its own, if there are any, and how many were duplicates: of each other, or of a row with a label, so that no text of test is among them.

    Args:
        rows: id and cleaned inputs.
        keys: (rows,) equal for rows whose inputs count as the same, SHA-256.
        labeled: keys of the rows with a label.
        target: the column without a value.
        schema: of the split.
    """
    first: dict[bytes, int] = {}
    for row, key in enumerate(keys.to_pylist()):
        if key not in labelled:
            first.setdefault(key, row)
    if not first:
        return {}, rows.num_rows
    chosen = rows.take(pa.array(list(first.values()), pa.int64()))
    facts = {
        target: pa.nulls(len(first), pa.string()),
        "split": [SPLIT] * len(first),
        "group": [key.hex()[:16] for key in first],
    }
    table = pa.table(
        {name: facts[name] if name in facts else chosen[name] for name in schema.names},
        schema=schema,
    )
    return {SPLIT: table}, rows.num_rows - len(first)
