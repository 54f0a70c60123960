"""Row-wise cleaning: its result depends on the content of a row alone."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from components.core.cache import cache_key
from components.fields.base import Field, NoValue, Reject
from components.stages.clean.params import CleanParams, near_duplicate_threshold
from components.stages.clean.split import draw
from components.stages.clean.unlabeled import is_for_training
from components.tasks import base

# Values of `fate`. Any other value is the reason why a row is rejected.
USABLE = "usable"
UNLABELLED = "unlabelled"
_SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "test": "test",
}
# Columns of cleaned contents that one row decides alone, beside its values.
_ROW_COLUMNS = ("fate", "detail", "changes", "target", "split")
# Params that concern all rows together, beside those of the rules for the target.
_OF_ALL_ROWS = (
    "boilerplate",
    "validation_share",
    "test_share",
    "split_by",
    "embargo_days",
    "fold",
    "frozen_split",
)


@dataclass(frozen=True)
class CleanInput:
    """Contents, and what is needed to clean them.

    Args:
        task: the task's id.
        inputs: of the pipeline, `Schema.inputs`.
        params: of `row_wise`.
        seed: of the split.
        rows: columns of `content`.
    """

    task: str
    inputs: Mapping[str, Any]
    params: CleanParams
    seed: int
    rows: pa.Table


def row_wise(schema: base.Schema, params: CleanParams) -> CleanParams:
    """Return the params with defaults for those that concern all rows together.

    Cleaning a row reads no other params, so its result depends on nothing else.

    Args:
        schema: of the task.
        params: of clean.
    """
    names = list(_OF_ALL_ROWS)
    if "clean" in schema.targets.options:
        names += schema.targets.options["clean"].model_fields
    if near_duplicate_threshold(params) < 1:
        names.append("near_duplicates")
    fields = type(params).model_fields
    return params.model_copy(update={name: fields[name].default for name in names})


def row_wise_key(task: str, schema: base.Schema, params: CleanParams, seed: int) -> str:
    """Return a cache key that is equal where rows are cleaned in the same way.

    Args:
        task: the task's id.
        schema: of the pipeline.
        params: of clean.
        seed: of the split.
    """
    row_params = row_wise(schema, params).model_dump(mode="json")
    inputs = dict(schema.chosen)
    return cache_key({"task": task, "inputs": inputs, "params": row_params, "seed": seed})


def target_role(schema: base.Schema) -> base.Role:
    """Return the role of the column that a model predicts."""
    return next(role for role in schema.roles if role.role == "target")


def target_of(schema: base.Schema) -> str:
    """Return the column that a model predicts."""
    return target_role(schema).name


def content(schema: base.Schema) -> list[str]:
    """Return the raw columns that the cleaning of a row reads."""
    return [*base.input_names(schema), target_of(schema), "split"]


def unique_rows_schema(schema: base.Schema) -> pa.Schema:
    """Return the schema of cleaned contents; values and target have the types of their fields.

    `fate` is USABLE, UNLABELLED or a reason. `changes` is what cleaning took from the values, as
    JSON: {column: {kind: [lost, whole, detail]}}. Keys are SHA-256. A group is named after a key,
    and its draw decides its split. Signatures are the bytes of their bands (bands,) uint64.
    """
    columns = [
        ("content", pa.binary(32)),
        ("fate", pa.string()),
        ("detail", pa.string()),
    ]
    for role in schema.roles:
        if role.role == "input":
            columns.append((f"value.{role.name}", large(role.field.arrow)))
    columns += [
        ("changes", pa.string()),
        ("target", target_role(schema).field.arrow),
        ("split", pa.string()),
        ("key", pa.binary(32)),
        ("group", pa.string()),
        ("draw", pa.binary(32)),
    ]
    for name in base.input_names(schema):
        columns.append((f"bands.{name}", pa.large_binary()))
    return pa.schema(columns)


def large(kind: pa.DataType) -> pa.DataType:
    """Return the type with 64-bit offsets for a type of bytes or texts, and other types as is."""
    if pa.types.is_binary(kind):
        return pa.large_binary()
    if pa.types.is_string(kind):
        return pa.large_string()
    return kind


def clean_piece(piece: CleanInput) -> pa.Table:
    """Clean contents, as a Ray task.

    Returns:
        A row of `unique_rows_schema` without `content` for each, in their order.
    """
    schema = base.schema(piece.task).with_inputs(piece.inputs)
    return clean_contents(piece.rows.to_pylist(), schema, piece.params, piece.seed)


def clean_contents(
    rows: Sequence[Mapping[str, Any]],
    schema: base.Schema,
    params: CleanParams,
    seed: int,
) -> pa.Table:
    """Return a row of `unique_rows_schema` without `content` for each raw row.

    Args:
        rows: with the columns of `content`.
        schema: of the pipeline.
        params: of `row_wise`.
        seed: of the split.
    """
    columns = [field for field in unique_rows_schema(schema) if field.name != "content"]
    fields = schema.fields(params)
    inputs = base.input_names(schema)
    names = [*(f"value.{name}" for name in inputs), *_ROW_COLUMNS]
    cleaned: dict[str, list[Any]] = {name: [] for name in names}
    for row in rows:
        values = _clean_row(row, fields, schema, params)
        for name, column in cleaned.items():
            column.append(values.get(name))
    fates = np.array(cleaned["fate"], dtype=object)
    has_values = np.flatnonzero(np.isin(fates, [USABLE, UNLABELLED]))
    values_of = {name: _take(cleaned[f"value.{name}"], has_values) for name in inputs}
    cleaned |= _keys(fields, values_of, has_values, len(fates), seed)
    arrays = {name: pa.array(values, _type_of(columns, name)) for name, values in cleaned.items()}
    usable = np.flatnonzero(fates == USABLE)
    for name in inputs:
        bands = None
        if near_duplicate_threshold(params) < 1:
            bands = fields[name].lsh_bands(_take(cleaned[f"value.{name}"], usable))
        arrays[f"bands.{name}"] = _as_binary(bands, usable, len(fates))
    return pa.table([arrays[field.name] for field in columns], schema=pa.schema(columns))


def _clean_row(
    row: Mapping[str, Any],
    fields: Mapping[str, Any],
    schema: base.Schema,
    params: CleanParams,
) -> dict[str, Any]:
    """Return what `unique_rows_schema` has of one row alone; a column without a value is left out.

    Args:
        row: of the columns of `content`.
        fields: of all columns.
        schema: of the task.
        params: of `row_wise`.
    """
    inputs = base.input_names(schema)
    target = target_of(schema)
    try:
        values = {name: fields[name].clean(row[name]) for name in inputs}
        cleaned = {"fate": USABLE, "changes": _changes(row, values, fields)}
        cleaned |= {f"value.{name}": value for name, value in values.items()}
        try:
            cleaned["target"] = fields[target].clean(row[target])
        except NoValue:
            if params.unlabelled != "keep" or not is_for_training(row["split"]):
                raise
            return cleaned | {"fate": UNLABELLED}
        cleaned["split"] = _own_split(row["split"])
    except Reject as error:
        return {"fate": error.reason, "detail": error.detail}
    return cleaned


def _changes(
    row: Mapping[str, Any],
    values: Mapping[str, Any],
    fields: Mapping[str, Field],
) -> str | None:
    """Return what cleaning took from the inputs of a row, as JSON; None where nothing is lost."""
    changes: dict[str, dict[str, list[Any]]] = {}
    for name, value in values.items():
        kinds = {}
        for kind, change in fields[name].changes(row[name], value).items():
            kinds[kind] = [change.lost, change.whole, change.detail]
        if kinds:
            changes[name] = kinds
    return json.dumps(changes, sort_keys=True) if changes else None


def _keys(
    fields: Mapping[str, Field],
    values: Mapping[str, Sequence[Any]],
    rows: NDArray[np.int64],
    count: int,
    seed: int,
) -> dict[str, list[Any]]:
    """Return the columns of the keys, the groups and the draws of rows.

    Args:
        fields: of the inputs.
        values: input -> the cleaned values of the rows that have them.
        rows: positions of these rows.
        count: of all rows; the others have no key.
        seed: of the split.
    """
    columns: dict[str, list[Any]] = {name: [None] * count for name in ("key", "group", "draw")}
    for row, text in zip(rows.tolist(), base.row_keys(fields, values), strict=True):
        key = hashlib.sha256(text.encode())
        group = key.hexdigest()[:16]
        columns["key"][row] = key.digest()
        columns["group"][row] = group
        columns["draw"][row] = draw(group, seed)
    return columns


def _as_binary(
    bands: NDArray[np.uint64] | None,
    rows: NDArray[np.int64],
    count: int,
) -> pa.Array:
    """Return signatures as a column of bytes.

    Args:
        bands: (n, bands) of some rows; None: no row has a signature.
        rows: (n,) ascending positions of these rows.
        count: of all rows; the others have none.
    """
    if bands is None:
        return pa.nulls(count, pa.large_binary())
    has_bands = np.zeros(count, dtype=bool)
    has_bands[rows] = True
    offsets = np.zeros(count + 1, np.int64)
    np.cumsum(has_bands * (bands.shape[1] * bands.itemsize), out=offsets[1:])
    validity = pa.array(has_bands).buffers()[1]
    buffers = [validity, pa.py_buffer(offsets), pa.py_buffer(bands)]
    return pa.Array.from_buffers(pa.large_binary(), count, buffers)


def _take(values: Sequence[Any], rows: NDArray[np.int64]) -> list[Any]:
    """Return the values at some positions."""
    return [values[row] for row in rows.tolist()]


def _type_of(columns: Sequence[pa.Field], name: str) -> pa.DataType:
    """Return the type of a column."""
    return next(field.type for field in columns if field.name == name)


def _own_split(name: str | None) -> str | None:
    """Return the split that the source names for a row.

    Raises:
        Reject: the name is not one of a split.
    """
    if name is None:
        return None
    plain = name.strip().lower()
    if plain not in _SPLIT_NAMES:
        raise Reject("unknown_split", name)
    return _SPLIT_NAMES[plain]
