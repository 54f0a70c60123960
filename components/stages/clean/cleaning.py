"""Row-wise cleaning: what becomes of a row by its content alone, wherever it stands and whatever its id."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from components.core.cache import cache_key
from components.fields.base import Field, Reject
from components.stages.clean.params import CleanParams
from components.stages.clean.split import draw
from components.stages.clean.unlabeled import may_be_learnt
from components.tasks import base

USABLE, UNLABELLED = "usable", "unlabelled"  # and reasons why a row is neither
_SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "test": "test",
}
_OF_ALL_ROWS = (
    "boilerplate",
    "conflicts",
    "min_rows_per_class",
    "small_classes",
    "validation_share",
    "test_share",
    "frozen_split",
)


@dataclass(frozen=True)
class Piece:
    """Some contents and what is needed to clean them."""

    task: str
    params: CleanParams  # of `row_wise`
    seed: int  # of the split
    rows: pa.Table  # columns of `content`


def row_wise(params: CleanParams) -> CleanParams:
    """The params without what is said of all rows together: cleaning a row sees nothing else, so its result depends on nothing else."""
    told: dict[str, Any] = {name: CleanParams.model_fields[name].default for name in _OF_ALL_ROWS}
    return params.model_copy(
        update=told
        | (
            {"near_duplicates": CleanParams.model_fields["near_duplicates"].default}
            if params.near_duplicates < 1
            else {}
        )
    )


def row_wise_key(task: str, params: CleanParams, seed: int) -> str:
    """Equal where rows are cleaned in the same way."""
    return cache_key(
        {"task": task, "params": row_wise(params).model_dump(mode="json"), "seed": seed}
    )


def inputs_of(schema: base.Schema) -> list[str]:
    """The input columns."""
    return [role.name for role in schema.roles if role.role == "input"]


def target_of(schema: base.Schema) -> str:
    """The column that is to be learned."""
    return next(role.name for role in schema.roles if role.role == "target")


def content(schema: base.Schema) -> list[str]:
    """The raw columns that a row's cleaning looks at."""
    return [*inputs_of(schema), target_of(schema), "split"]


def pool_schema(schema: base.Schema) -> pa.Schema:
    """Cleaned contents: `fate` (USABLE, UNLABELLED or a reason), then their values, and in JSON what cleaning took from them ({column: {kind: [lost, whole, detail]}}).

    Keys are SHA-256; a group is named after a key, and its draw decides of its part; signatures are the bytes of their bands (bands,) uint64.
    """
    values = [
        (
            f"value.{role.name}",
            pa.large_binary() if pa.types.is_binary(role.field.arrow) else pa.large_string(),
        )
        for role in schema.roles
        if role.role == "input"
    ]
    bands = [(f"bands.{name}", pa.large_binary()) for name in inputs_of(schema)]
    own = [
        ("changes", pa.string()),
        ("target", pa.string()),
        ("split", pa.string()),
        ("key", pa.binary(32)),
        ("group", pa.string()),
        ("draw", pa.binary(32)),
    ]
    return pa.schema(
        [
            ("content", pa.binary(32)),
            ("fate", pa.string()),
            ("detail", pa.string()),
            *values,
            *own,
            *bands,
        ]
    )


def clean_piece(piece: Piece) -> pa.Table:
    """Clean contents, as a Ray task: a row of `pool_schema` each, but for `content`, in their order."""
    schema = base.schema(piece.task)
    wanted = pool_schema(schema)
    own = pa.schema([field for field in wanted if field.name != "content"])
    fields = schema.fields(piece.params)
    cleaned = [
        clean_row(row, fields, schema, piece.params, piece.seed) for row in piece.rows.to_pylist()
    ]
    return pa.Table.from_pylist(cleaned, schema=own)


def clean_row(
    row: Mapping[str, Any],
    fields: Mapping[str, Any],
    schema: base.Schema,
    params: CleanParams,
    seed: int,
) -> dict[str, Any]:
    """Return a row of `pool_schema` but for `content`.

    Args:
        row: of the columns of `content`.
        fields: of all columns.
        schema: of the task.
        params: of `row_wise`.
        seed: of the split.
    """
    inputs, target = inputs_of(schema), target_of(schema)
    try:
        values = {name: fields[name].clean(row[name]) for name in inputs}
        try:
            label = fields[target].clean(row[target])
        except Reject as error:
            if (
                error.reason != "no_label"
                or params.unlabelled != "keep"
                or not may_be_learnt(row["split"])
            ):
                raise
            return {
                "fate": UNLABELLED,
                "changes": _changes(row, values, fields),
                **_kept(values, fields, seed),
            }
        split = _own_split(row["split"])
    except Reject as error:
        return {"fate": error.reason, "detail": error.detail}
    found = {
        "fate": USABLE,
        "changes": _changes(row, values, fields),
        **_kept(values, fields, seed),
        "target": label,
        "split": split,
    }
    if params.near_duplicates < 1:
        for name in inputs:
            bands = fields[name].signature(values[name])
            found[f"bands.{name}"] = None if bands is None else bands.tobytes()
    return found


def _changes(
    row: Mapping[str, Any], values: Mapping[str, Any], fields: Mapping[str, Field]
) -> str | None:
    """Return what cleaning took from the inputs of a row, as JSON; None where nothing is lost."""
    changes: dict[str, dict[str, list[Any]]] = {}
    for name, value in values.items():
        found = fields[name].changes(row[name], value)
        if found:
            changes[name] = {
                kind: [change.lost, change.whole, change.detail] for kind, change in found.items()
            }
    return json.dumps(changes, sort_keys=True) if changes else None


def _kept(values: Mapping[str, Any], fields: Mapping[str, Any], seed: int) -> dict[str, Any]:
    key = hashlib.sha256(base.row_key(fields, list(values), values).encode())
    group = key.hexdigest()[:16]
    return {
        **{f"value.{name}": value for name, value in values.items()},
        "key": key.digest(),
        "group": group,
        "draw": draw(group, seed),
    }


def _own_split(name: str | None) -> str | None:
    if name is None:
        return None
    if name.strip().lower() not in _SPLIT_NAMES:
        raise Reject("unknown_split", name)
    return _SPLIT_NAMES[name.strip().lower()]
