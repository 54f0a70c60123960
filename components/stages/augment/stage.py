"""Stage augment: more train rows from train rows.

The output has only the added rows. A row names its parent and its method.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from pydantic import BaseModel

from components.core.files import to_json, write_atomic
from components.core.job import Job
from components.core.parallel_map import parallel_map
from components.core.tables import read_manifest, read_table, write_table
from components.fields.base import Reject
from components.stages.augment.params import AugmentParams
from components.tasks import base

_ROWS_PER_TASK = 4000
_ATTEMPTS = 4


@dataclass(frozen=True)
class VaryInput:
    """Rows, and what is needed to vary them.

    Args:
        task: the task's id.
        inputs: of the pipeline, `Schema.inputs`.
        seed: of the run.
        number: of the input, part of the seed.
        params: of augment.
        clean: params of clean.
        rows: train rows.
        variants: (rows,) number of variants of each row.
    """

    task: str
    inputs: Mapping[str, Any]
    seed: int
    number: int
    params: AugmentParams
    clean: BaseModel
    rows: pa.Table
    variants: list[int]


def run(job: Job) -> None:
    """Write `rate` variants per train row, as far as the task has methods.

    No variant equals a row of clean or another variant.
    """
    params: AugmentParams = job.params
    schema = base.schema_of(job.task, read_manifest(job.inputs["clean"]))
    train = read_table(job.inputs["clean"], "train")
    added: list[dict[str, Any]] = []
    if params.rate and schema.augmenters(params):
        added = _new_rows(job, schema, _variants(job, schema, train))
    columns = train.schema
    for name in ("parent", "method"):
        columns = columns.append(pa.field(name, pa.string()))
    table = pa.Table.from_pylist(added, schema=columns)
    methods = sorted(Counter(table["method"].to_pylist()).items())
    write_table(job.outputs["augmented"], {"train": table}, {"methods": dict(methods)})
    report = {"added": table.num_rows, "train": train.num_rows}
    for name, count in methods:
        report[f"added_{name}"] = count
    write_atomic(job.outputs["report"], to_json(report))
    message = "no rows are added: augment.rate is 0"
    if params.rate:
        message = "no rows are added: no method of this task adds rows"
    if added:
        message = f"{table.num_rows:,} rows added to {train.num_rows:,}"
    job.journal.log(message)


def _new_rows(
    job: Job, schema: base.Schema, variants: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Return the variants that equal neither a row of clean nor a variant before them.

    One that equals a validation row would be a leak, and one that equals a train row a repeat.
    """
    fields = schema.fields(job.sections["clean"])
    inputs = base.input_names(schema)
    parts = [read_table(job.inputs["clean"], part) for part in ("train", "validation", "test")]
    rows = pa.concat_tables(parts).select(inputs)
    keys = set(base.row_keys(fields, rows.to_pydict()))
    columns = {name: [row[name] for row in variants] for name in inputs}
    new = []
    for row, key in zip(variants, base.row_keys(fields, columns), strict=True):
        if key not in keys:
            keys.add(key)
            new.append(row)
    return new


def _variants(job: Job, schema: base.Schema, train: pa.Table) -> list[dict[str, Any]]:
    """Return variants of the train rows, in the order of their parents."""
    params: AugmentParams = job.params
    rng = np.random.default_rng(job.seed)
    extra = rng.random(train.num_rows) < params.rate % 1
    counts = np.full(train.num_rows, int(params.rate)) + extra
    inputs = []
    for number, start in enumerate(range(0, train.num_rows, _ROWS_PER_TASK)):
        inputs.append(
            VaryInput(
                task=job.task,
                inputs=schema.chosen,
                seed=job.seed,
                number=number,
                params=params,
                clean=job.sections["clean"],
                rows=train.slice(start, _ROWS_PER_TASK),
                variants=counts[start : start + _ROWS_PER_TASK].tolist(),
            )
        )
    rows: list[dict[str, Any]] = []
    for number, variants in enumerate(parallel_map(vary, inputs), 1):
        rows += variants
        job.journal.progress(number, len(inputs), "pieces")
    return rows


def vary(piece: VaryInput) -> list[dict[str, Any]]:
    """Return variants of rows, as a Ray task.

    The seed is of the input, so the variants are the same on any worker.
    """
    schema = base.schema(piece.task).with_inputs(piece.inputs)
    fields = schema.fields(piece.clean)
    methods = schema.augmenters(piece.params)
    rng = np.random.default_rng([piece.seed, piece.number])
    variants = []
    for row, count in zip(piece.rows.to_pylist(), piece.variants, strict=True):
        for number in range(count):
            variant = _variant(row, methods, fields, rng)
            if variant is not None:
                variant["id"] = f"{row['id']}+{number}"
                variant["parent"] = row["id"]
                variants.append(variant)
    return variants


def _variant(
    row: Mapping[str, Any],
    methods: Mapping[str, Any],
    fields: Mapping[str, Any],
    rng: np.random.Generator,
) -> dict[str, Any] | None:
    """Return a cleaned variant of a row with its method; None if no attempt gives one.

    Args:
        row: a train row.
        methods: by name.
        fields: of all columns.
        rng: of the choice of methods and of the variants.
    """
    names = sorted(methods)
    for _ in range(_ATTEMPTS):
        method = names[int(rng.integers(len(methods)))]
        variant = methods[method](row, rng)
        if variant is None:
            continue
        cleaned = dict(variant)
        try:
            for name, value in variant.items():
                if name in fields:
                    cleaned[name] = fields[name].clean(value)
        except Reject:
            continue
        return {**cleaned, "method": method}
    return None
