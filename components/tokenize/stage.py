"""tokenize: fit the task's encoder on train rows, encode every row. One row in, one row out."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from components.core.files import copy, sha256, to_json, write_atomic
from components.core.job import Job
from components.core.spread import spread
from components.core.tables import MANIFEST, PRETRAINED, read_manifest, read_table, write_table
from components.monitor.profile import profile_of
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
    columns = [role.name for role in base.schema(job.task).roles if role.role in ("input", "target")]
    inputs = [role.name for role in base.schema(job.task).roles if role.role == "input"]
    splits = [*_SPLITS, *(["unlabelled"] if read_manifest(job.inputs["clean"])["parts"].get("unlabelled") else [])]
    rows = {split: read_table(job.inputs["clean"], split, ["id", *columns]) for split in splits}
    train = rows["train"]  # what augment adds is for learning: nobody sends texts with masks in them
    rows["train"] = pa.concat_tables([train, read_table(job.inputs["augmented"], "train", ["id", *columns])])
    lent = encoding.lender(job.params, job.root) if isinstance(encoding, base.BorrowsVocabulary) else {}
    if lent and isinstance(encoding, base.BorrowsVocabulary):
        encoder = encoding.borrow(lent, classes, job.params, job.sections["clean"])
    else:
        encoder = encoding.fit(iter(rows["train"].to_batches(max_chunksize=1000)), classes, job.params, job.sections["clean"])
    files = dict(encoder.files())
    pieces = [(split, Piece(job.task, files, table.slice(start, _ROWS_PER_TASK))) for split, table in rows.items() for start in range(0, table.num_rows, _ROWS_PER_TASK)]
    encoded: dict[str, list[pa.Table]] = {split: [] for split in splits}
    for number, ((split, _), table) in enumerate(zip(pieces, spread(encode, [piece for _, piece in pieces]), strict=True), 1):
        encoded[split].append(table)
        job.journal.progress(number, len(pieces), "pieces")
    parts = {split: pa.concat_tables(tables) for split, tables in encoded.items()}
    if any(parts[split].num_rows != rows[split].num_rows for split in splits):
        raise AssertionError("an encoder must give one row for each row")
    lengths = np.concatenate([encoder.lengths(part) for part in parts.values()])
    fields = base.schema(job.task).fields(job.sections["clean"])
    shaping = base.schema(job.task).options["clean"].model_fields
    facts = {
        "task": job.task,
        "classes": classes,
        "data_hash": sha256(job.inputs["clean"] / MANIFEST),
        "encoder": {name: hashlib.sha256(content).hexdigest() for name, content in files.items()},
        "lengths": {name: float(value) for name, value in zip(("p5", "p50", "p95", "max"), np.percentile(lengths, [5, 50, 95, 100]), strict=True)} | {"mean": float(lengths.mean())},
        "histogram": {str(length): count for length, count in sorted(Counter(lengths.tolist()).items())},
        "profile": profile_of({name: train[name].to_pylist() for name in inputs}, fields, {name: value for name, value in job.sections["clean"].model_dump(mode="json").items() if name in shaping}),
    }
    if lent:
        facts["pretrained"] = {name: sha256(path) for name, path in lent.items()}
    for name, content in files.items():
        write_atomic(job.outputs["tokens"] / "encoder" / name, content)
    for name, path in lent.items():
        copy(path, job.outputs["tokens"] / PRETRAINED / name)
    write_table(job.outputs["tokens"], parts, facts)
    write_atomic(job.outputs["report"], to_json({"rows": len(lengths), **{f"length_{name}": value for name, value in facts["lengths"].items()}}))
    job.journal.say(f"{len(lengths):,} rows encoded, {facts['lengths']['mean']:.1f} tokens a row (95%: up to {facts['lengths']['p95']:.0f})")


def encode(piece: Piece) -> pa.Table:
    """Encode a piece, as a Ray task."""
    return base.encoding(piece.task).load(piece.encoder).encode(piece.rows)
