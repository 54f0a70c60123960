"""augment: more train rows from train rows. Holds only what was added, each with its parent and method."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from pydantic import BaseModel

from components.core.files import to_json, write_atomic
from components.core.job import Job
from components.core.parallel_map import parallel_map
from components.core.tables import read_table, write_table
from components.fields.base import Reject
from components.stages.augment.params import AugmentParams
from components.tasks import base

_ROWS_PER_TASK = 4000
_ATTEMPTS = 4


@dataclass(frozen=True)
class Piece:
    """Some parents and what is needed to vary them."""

    task: str
    seed: int
    number: int
    params: AugmentParams
    clean: BaseModel
    rows: pa.Table
    variants: list[int]  # of each row


def run(job: Job) -> None:
    """Write `rate` variants per train row, as far as the task has methods; none may equal a row of clean."""
    params: AugmentParams = job.params
    schema = base.schema(job.task)
    fields = schema.fields(job.sections["clean"])
    inputs = [role.name for role in schema.roles if role.role == "input"]
    clean = pa.concat_tables(
        [read_table(job.inputs["clean"], part) for part in ("train", "validation", "test")]
    )
    train = read_table(job.inputs["clean"], "train")
    added: list[dict[str, Any]] = []
    if params.rate and schema.augmenters(params):
        taken = {base.row_key(fields, inputs, row) for row in clean.select(inputs).to_pylist()}
        for row in _variants(job, params, train):
            key = base.row_key(fields, inputs, row)
            if (
                key not in taken
            ):  # a variant that equals a validation row would be a leak; one that equals a train row, a repeat
                taken.add(key)
                added.append(row)
    table = pa.Table.from_pylist(
        added,
        schema=train.schema.append(pa.field("parent", pa.string())).append(
            pa.field("method", pa.string())
        ),
    )
    methods = Counter(table["method"].to_pylist())
    write_table(
        job.outputs["augmented"], {"train": table}, {"methods": dict(sorted(methods.items()))}
    )
    write_atomic(
        job.outputs["report"],
        to_json(
            {
                "added": table.num_rows,
                "train": train.num_rows,
                **{f"added_{name}": count for name, count in sorted(methods.items())},
            }
        ),
    )
    job.journal.log(
        f"{table.num_rows:,} rows added to {train.num_rows:,}"
        if added
        else "no rows are added: switched off, or this task transforms on the fly"
    )


def _variants(job: Job, params: AugmentParams, train: pa.Table) -> list[dict[str, Any]]:
    rng = np.random.default_rng(job.seed)
    counts = np.full(train.num_rows, int(params.rate)) + (
        rng.random(train.num_rows) < params.rate % 1
    )
    pieces = [
        Piece(
            job.task,
            job.seed,
            number,
            params,
            job.sections["clean"],
            train.slice(start, _ROWS_PER_TASK),
            counts[start : start + _ROWS_PER_TASK].tolist(),
        )
        for number, start in enumerate(range(0, train.num_rows, _ROWS_PER_TASK))
    ]
    rows: list[dict[str, Any]] = []
    for number, some in enumerate(parallel_map(vary, pieces), 1):
        rows += some
        job.journal.progress(number, len(pieces), "pieces")
    return rows


def vary(piece: Piece) -> list[dict[str, Any]]:
    """The variants of a piece, as a Ray task; seeded by the piece, so the same whoever runs it."""
    schema = base.schema(piece.task)
    fields = schema.fields(piece.clean)
    methods = schema.augmenters(piece.params)
    rng = np.random.default_rng([piece.seed, piece.number])
    result = []
    for row, count in zip(piece.rows.to_pylist(), piece.variants, strict=True):
        for number in range(count):
            for _ in range(_ATTEMPTS):
                method = sorted(methods)[int(rng.integers(len(methods)))]
                variant = methods[method](row, rng)
                if variant is None:
                    continue
                try:
                    cleaned = {
                        name: fields[name].clean(value)
                        for name, value in variant.items()
                        if name in fields
                    }
                except Reject:
                    continue
                result.append(
                    {
                        **variant,
                        **cleaned,
                        "id": f"{row['id']}+{number}",
                        "parent": row["id"],
                        "method": method,
                    }
                )
                break
    return result
