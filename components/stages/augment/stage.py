"""Stage augment: more train rows from train rows.

The output has only the added rows. A row names its parent and its method.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import compress, islice
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import BaseModel

from components.core.files import to_json, write_atomic
from components.core.job import Job
from components.core.parallel_map import parallel_map
from components.core.tables import (
    ROWS_PER_SHARD,
    TableWriter,
    batches_of,
    map_table,
    read_manifest,
)
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
    train = map_table(job.inputs["clean"], job.state / "train.arrow", "train")
    columns = train.schema
    for name in ("parent", "method"):
        columns = columns.append(pa.field(name, pa.string()))
    writer = TableWriter(job.outputs["augmented"])
    writer.write("train", columns.empty_table())
    counts: Counter[str] = Counter()
    if params.rate and schema.augmenters(params):
        rows = _new_rows(job, schema, _variants(job, schema, train))
        while shard := list(islice(rows, ROWS_PER_SHARD)):
            counts.update(row["method"] for row in shard)
            writer.write("train", pa.Table.from_pylist(shard, schema=columns))
    methods = dict(sorted(counts.items()))
    writer.close({"methods": methods})
    added = counts.total()
    report = {"added": added, "train": train.num_rows}
    for name, count in methods.items():
        report[f"added_{name}"] = count
    write_atomic(job.outputs["report"], to_json(report))
    message = "no rows are added: augment.rate is 0"
    if params.rate:
        message = "no rows are added: no method of this task adds rows"
    if added:
        message = f"{added:,} rows added to {train.num_rows:,}"
    job.journal.log(message)


def _new_rows(
    job: Job, schema: base.Schema, variants: Iterable[Sequence[dict[str, Any]]]
) -> Iterator[dict[str, Any]]:
    """Yield the variants that equal neither a row of clean nor a variant before them.

    One that equals a validation row would be a leak, and one that equals a train row a repeat.

    Args:
        job: augment.
        schema: of the pipeline.
        variants: by part.
    """
    fields = schema.fields(job.sections["clean"])
    inputs = base.input_names(schema)
    known = [np.empty(0, np.uint64)]
    for part in ("train", "validation", "test"):
        for batch in batches_of(job.inputs["clean"], part, inputs):
            known.append(_key_hashes(fields, batch.to_pydict()))
    seen = np.sort(np.concatenate(known))
    for rows in variants:
        columns = {}
        for name in inputs:
            columns[name] = [row[name] for row in rows]
        hashes = _key_hashes(fields, columns)
        _, first = np.unique(hashes, return_index=True)
        is_new = np.zeros(len(rows), bool)
        is_new[first] = True
        places = np.searchsorted(seen, hashes)
        inside = places < len(seen)
        is_new[inside] &= seen[places[inside]] != hashes[inside]
        yield from compress(rows, is_new.tolist())
        added = np.sort(hashes[is_new])
        seen = np.insert(seen, np.searchsorted(seen, added), added)


def _key_hashes(
    fields: Mapping[str, Any], values: Mapping[str, Sequence[Any]]
) -> NDArray[np.uint64]:
    """Return (rows,) hashes of the keys of rows: 8 bytes a row, where keys are as long as texts.

    Two different keys among 10 million have one hash with a probability of 3 in a million. Then
    a variant is left out.

    Args:
        fields: of the inputs.
        values: input -> (rows,) values.
    """
    keys = base.row_keys(fields, values)
    digests = [hashlib.blake2b(key.encode(), digest_size=8).digest() for key in keys]
    return np.frombuffer(b"".join(digests), np.uint64)


def _variants(job: Job, schema: base.Schema, train: pa.Table) -> Iterator[list[dict[str, Any]]]:
    """Yield variants of the train rows, in the order of their parents, by part."""
    params: AugmentParams = job.params
    rng = np.random.default_rng(job.seed)
    extra = rng.random(train.num_rows) < params.rate % 1
    counts = np.full(train.num_rows, int(params.rate)) + extra
    starts = range(0, train.num_rows, _ROWS_PER_TASK)
    inputs = (
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
        for number, start in enumerate(starts)
    )
    for number, variants in enumerate(parallel_map(vary, inputs), 1):
        job.journal.progress(number, len(starts), "pieces")
        yield variants


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
