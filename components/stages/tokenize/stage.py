"""tokenize: fit the task's encoder on train rows, encode every row. One row in, one row out."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from components.core.files import copy, sha256, to_json, write_atomic
from components.core.job import Job
from components.core.parallel_map import parallel_map
from components.core.tables import MANIFEST, PRETRAINED, read_manifest, read_table, write_table
from components.fields.base import Summary
from components.monitoring.profile import profile_of
from components.tasks import base

_ROWS_PER_TASK = 4000
_SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Piece:
    """Some rows and the files of the encoder."""

    task: str
    encoder: dict[str, bytes]
    rows: pa.Table


def run(job: Job) -> None:
    """Write `tokens`: encoded rows per split, and the encoder's files below `encoder/`."""
    encoding = base.encoding(job.task)
    classes = read_manifest(job.inputs["clean"])["classes"]
    columns = [
        role.name for role in base.schema(job.task).roles if role.role in ("input", "target")
    ]
    inputs = [role.name for role in base.schema(job.task).roles if role.role == "input"]
    splits = [
        *_SPLITS,
        *(["unlabelled"] if read_manifest(job.inputs["clean"])["parts"].get("unlabelled") else []),
    ]
    rows = {split: read_table(job.inputs["clean"], split, ["id", *columns]) for split in splits}
    # What augment adds is for learning: nobody sends texts with masks in them.
    train = rows["train"]
    augmented = read_table(job.inputs["augmented"], "train", ["id", *columns])
    rows["train"] = pa.concat_tables([train, augmented])
    lent = (
        encoding.pretrained_files(job.params, job.root)
        if isinstance(encoding, base.BorrowsVocabulary)
        else {}
    )
    if lent and isinstance(encoding, base.BorrowsVocabulary):
        encoder = encoding.load_vocabulary(lent, classes, job.params, job.sections["clean"])
    else:
        encoder = encoding.fit(
            iter(rows["train"].to_batches(max_chunksize=1000)),
            classes,
            job.params,
            job.sections["clean"],
        )
    files = dict(encoder.files())
    parts, losses = _encoded(job, files, rows)
    lengths = np.concatenate([encoder.lengths(part) for part in parts.values()])
    # What augment added behind the train rows is left out: its lengths are those of the rows it was made from.
    parts_of_source = {
        split: part.slice(0, train.num_rows) if split == "train" else part
        for split, part in parts.items()
    }
    shortened = _shortened(encoder, parts_of_source, losses)
    facts = {
        "task": job.task,
        "classes": classes,
        "data_hash": sha256(job.inputs["clean"] / MANIFEST),
        "encoder": {name: hashlib.sha256(content).hexdigest() for name, content in files.items()},
        "lengths": _summary_of(lengths),
        "account": shortened,
        "histogram": {
            str(length): count for length, count in sorted(Counter(lengths.tolist()).items())
        },
        "profile": _input_profile(job, {name: train[name].to_pylist() for name in inputs}),
    }
    if lent:
        facts["pretrained"] = {name: sha256(path) for name, path in lent.items()}
    for name, content in files.items():
        write_atomic(job.outputs["tokens"] / "encoder" / name, content)
    for name, path in lent.items():
        copy(path, job.outputs["tokens"] / PRETRAINED / name)
    write_table(job.outputs["tokens"], parts, facts)
    _report(job, len(lengths), facts["lengths"], shortened)


def _encoded(
    job: Job, files: dict[str, bytes], rows: Mapping[str, pa.Table]
) -> tuple[dict[str, pa.Table], dict[str, NDArray[np.int64]]]:
    """Return the encoded rows of each split, and how much each row was cut (n,).

    Args:
        job: reports progress.
        files: of the encoder.
        rows: split -> rows.
    """
    pieces = []
    for split, table in rows.items():
        for start in range(0, table.num_rows, _ROWS_PER_TASK):
            pieces.append((split, Piece(job.task, files, table.slice(start, _ROWS_PER_TASK))))
    encoded: dict[str, list[pa.Table]] = {split: [] for split in rows}
    losses: dict[str, list[NDArray[np.int64]]] = {split: [np.empty(0, np.int64)] for split in rows}
    results = parallel_map(encode, [piece for _, piece in pieces])
    for number, ((split, _), (table, lost)) in enumerate(zip(pieces, results, strict=True), 1):
        encoded[split].append(table)
        losses[split].append(lost)
        job.journal.progress(number, len(pieces), "pieces")
    parts = {split: pa.concat_tables(tables) for split, tables in encoded.items()}
    if any(parts[split].num_rows != rows[split].num_rows for split in rows):
        raise AssertionError("an encoder must give one row for each row")
    return parts, {split: np.concatenate(lost) for split, lost in losses.items()}


def _summary_of(lengths: NDArray[np.int64]) -> dict[str, float]:
    """Return percentiles and the mean of the lengths of rows (n,)."""
    percentiles = np.percentile(lengths, [5, 50, 95, 100]).tolist()
    summary = dict(zip(("p5", "p50", "p95", "max"), percentiles, strict=True))
    return summary | {"mean": float(lengths.mean())}


def _input_profile(job: Job, values: Mapping[str, Sequence[Any]]) -> dict[str, Any]:
    """Return the profile of the inputs of train, with the params of clean that shape them."""
    schema = base.schema(job.task)
    params = job.sections["clean"].model_dump(mode="json")
    shaping = schema.options["clean"].model_fields
    shaped_by = {name: value for name, value in params.items() if name in shaping}
    return profile_of(values, schema.fields(job.sections["clean"]), shaped_by)


def _report(
    job: Job, rows: int, lengths: Mapping[str, float], shortened: Sequence[Mapping[str, Any]]
) -> None:
    """Write the report and print what was encoded and what was cut."""
    cut = {"cut_rows": sum(entry["rows"] for entry in shortened)} if shortened else {}
    write_atomic(
        job.outputs["report"],
        to_json(
            {
                "rows": rows,
                **cut,
                **{f"length_{name}": value for name, value in lengths.items()},
            }
        ),
    )
    mean, p95 = lengths["mean"], lengths["p95"]
    job.journal.log(f"{rows:,} rows encoded, {mean:.1f} tokens a row (95%: up to {p95:.0f})")
    for entry in shortened:
        job.journal.log(entry["message"])


def _shortened(
    encoder: base.Encoder, parts: Mapping[str, pa.Table], losses: Mapping[str, NDArray[np.int64]]
) -> list[dict[str, Any]]:
    """Return what the encoder cut from the rows of clean, for the report; nothing where it cut nothing.

    Args:
        parts: split -> encoded rows of clean.
        losses: split -> (at least as many,) what each row lost.
    """
    if not isinstance(encoder, base.Shortens):
        return []
    lost = np.concatenate([losses[split][: part.num_rows] for split, part in parts.items()])
    kept = np.concatenate([encoder.lengths(part) for part in parts.values()])
    cut = lost > 0
    if not cut.any():
        return []
    taken = int(lost.sum())
    whole = int((lost + kept)[cut].sum())
    summary = Summary(int(cut.sum()), len(lost), taken, whole, {})
    return [
        {
            "what": "tokens_cut",
            "rows": summary.changed,
            "of": summary.rows,
            "message": encoder.tell(summary),
            "share_lost": round(taken / whole, 6),
        }
    ]


def encode(piece: Piece) -> tuple[pa.Table, NDArray[np.int64]]:
    """Encode a piece, as a Ray task; returns its rows and how much each was cut."""
    encoder = base.encoding(piece.task).load(piece.encoder)
    encoded = encoder.encode(piece.rows)
    lost = (
        encoder.losses(piece.rows, encoded)
        if isinstance(encoder, base.Shortens)
        else np.zeros(piece.rows.num_rows, np.int64)
    )
    return encoded, lost
