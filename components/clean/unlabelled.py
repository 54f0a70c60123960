"""Rows without a label: no use for a classifier, but text to learn a language from."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence, Set
from typing import Any

import pyarrow as pa

from components.fields.base import Field
from components.tasks.base import row_key

SPLIT = "unlabelled"


def nameless(row: Mapping[str, Any], fields: Mapping[str, Field], inputs: Sequence[str]) -> dict[str, Any] | None:
    """The cleaned inputs of a raw row, with their key; None where its own split says that it is to be judged, not learnt from."""
    if (row["split"] or SPLIT).strip().lower() not in (SPLIT, "train", "training"):
        return None
    values = {name: fields[name].clean(row[name]) for name in inputs}
    return {"id": row["id"], **values, "key": row_key(fields, inputs, values)}


def settle(found: Sequence[Mapping[str, Any]], labelled: Set[str], target: str, schema: pa.Schema) -> tuple[dict[str, pa.Table], int]:
    """The split of its own, if there are any, and how many were duplicates: of each other, or of a row with a label, so that no text of test is among them."""
    first: dict[str, Mapping[str, Any]] = {}
    for row in found:
        if row["key"] not in labelled:
            first.setdefault(row["key"], row)
    rows = [{**row, target: None, "split": SPLIT, "group": hashlib.sha256(key.encode()).hexdigest()[:16]} for key, row in first.items()]
    return {SPLIT: pa.Table.from_pylist(rows, schema=schema)} if rows else {}, len(found) - len(rows)
