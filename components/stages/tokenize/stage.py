"""Stage tokenize: fit the task's encoder to train rows, and encode each row."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from components.core.files import sha256, to_json, write_atomic
from components.core.job import Job
from components.core.parallel_map import parallel_map
from components.core.tables import (
    MANIFEST,
    PRETRAINED,
    TableWriter,
    map_table,
    read_manifest,
    sample,
)
from components.fields.base import Summary
from components.monitoring.profile import profile_of
from components.tasks import base

_ROWS_PER_TASK = 4000
# Train rows by which new inputs are known again. The standard error of a share is 0.4 points.
_PROFILE_ROWS = 20_000
_SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class EncodeInput:
    """Rows, and the files of the encoder."""

    task: str
    encoder: dict[str, bytes]
    rows: pa.Table


@dataclass(frozen=True)
class _Sizes:
    """Tokens of encoded rows.

    Args:
        lengths: (rows,) tokens of each row.
        losses: (rows,) tokens that each row lost.
    """

    lengths: NDArray[np.int64]
    losses: NDArray[np.int64]

    def first(self, rows: int) -> _Sizes:
        """Return the sizes of the first rows."""
        return _Sizes(self.lengths[:rows], self.losses[:rows])


def run(job: Job) -> None:
    """Write `tokens`: encoded rows per split, and the encoder's files below `encoder/`."""
    clean = read_manifest(job.inputs["clean"])
    schema = base.schema_of(job.task, clean)
    targets = schema.targets.info(clean)
    inputs = base.input_names(schema)
    columns = ["id"]
    columns += [role.name for role in schema.roles if role.role in ("input", "target")]
    rows = {}
    for split in _splits(clean):
        copy = job.state / f"{split}.arrow"
        rows[split] = map_table(job.inputs["clean"], copy, split, columns)
    train = rows["train"]
    copy = job.state / "augmented.arrow"
    augmented = map_table(job.inputs["augmented"], copy, "train", columns)
    rows["train"] = pa.concat_tables([train, augmented])
    encoder, pretrained = _encoder(job, schema, rows["train"], targets)
    files = dict(encoder.files())
    writer = TableWriter(job.outputs["tokens"])
    sizes = _write_encoded(job, files, rows, writer)
    lengths = np.concatenate([size.lengths for size in sizes.values()])
    # Augmented rows follow the train rows. They are left out: their lengths are those of the rows
    # that they were made from.
    sizes_of_source = {**sizes, "train": sizes["train"].first(train.num_rows)}
    shortened = _shortened(encoder, list(sizes_of_source.values()))
    histogram = sorted(Counter(lengths.tolist()).items())
    # Without augmented rows: clients send no texts with masks in them.
    described = sample(train, _PROFILE_ROWS, seed=0)
    values = {name: described[name].to_pylist() for name in inputs}
    manifest = {
        "task": job.task,
        **targets,
        "data_hash": sha256(job.inputs["clean"] / MANIFEST),
        "encoder": {name: hashlib.sha256(content).hexdigest() for name, content in files.items()},
        "lengths": _length_summary(lengths),
        "account": shortened,
        "histogram": {str(length): count for length, count in histogram},
        "profile": _input_profile(job, schema, values),
        **base.inputs_entry(schema.chosen),
    }
    if pretrained:
        manifest["pretrained"] = {name: sha256(path) for name, path in pretrained.items()}
    for name, content in files.items():
        write_atomic(job.outputs["tokens"] / "encoder" / name, content)
    writer.close(manifest)
    _report(job, len(lengths), manifest["lengths"], shortened)


def _splits(clean: Mapping[str, Any]) -> list[str]:
    """Return the splits of the clean table.

    Args:
        clean: its manifest.
    """
    splits = list(_SPLITS)
    if clean["parts"].get("unlabelled"):
        splits.append("unlabelled")
    return splits


def _encoder(
    job: Job,
    schema: base.Schema,
    train: pa.Table,
    targets: base.TargetInfo,
) -> tuple[base.Encoder, Mapping[str, Path]]:
    """Return the encoder: with a pretrained vocabulary, or fitted to the train rows.

    Args:
        job: tokenize.
        schema: of the pipeline.
        train: train rows, augmented ones included.
        targets: of clean.

    Returns:
        The encoder; and the files of the pretrained network by name, none without one. They are
        in the tokens folder.
    """
    encoding = base.encoding(job.task)
    clean = job.sections["clean"]
    batches = iter(train.to_batches(max_chunksize=1000))
    if isinstance(encoding, base.BorrowsVocabulary):
        source = encoding.pretrained_files(job.params, job.root)
        if source:
            folder = job.outputs["tokens"] / PRETRAINED
            pretrained = encoding.write_pretrained(source, batches, job.params, folder)
            encoder = encoding.load_vocabulary(pretrained, targets, job.params, clean)
            return encoder, pretrained
    return encoding.fit(batches, targets, job.params, clean, schema.chosen), {}


def _write_encoded(
    job: Job,
    files: dict[str, bytes],
    rows: Mapping[str, pa.Table],
    writer: TableWriter,
) -> dict[str, _Sizes]:
    """Encode and write the rows of each split, and return their sizes.

    Args:
        job: reports progress.
        files: of the encoder.
        rows: split -> rows.
        writer: of the tokens.
    """
    encoder = base.encoding(job.task).load(files)
    pieces = []
    for split, table in rows.items():
        for start in range(0, max(1, table.num_rows), _ROWS_PER_TASK):
            pieces.append((split, start))
    inputs = (
        EncodeInput(job.task, files, rows[split].slice(start, _ROWS_PER_TASK))
        for split, start in pieces
    )
    parts: dict[str, list[_Sizes]] = {split: [] for split in rows}
    results = zip(pieces, parallel_map(encode, inputs), strict=True)
    for number, ((split, _), (table, losses)) in enumerate(results, 1):
        writer.write(split, table)
        parts[split].append(_Sizes(encoder.lengths(table), losses))
        job.journal.progress(number, len(pieces), "pieces")
    sizes = {}
    for split, of_pieces in parts.items():
        lengths = np.concatenate([part.lengths for part in of_pieces])
        losses = np.concatenate([part.losses for part in of_pieces])
        if len(lengths) != rows[split].num_rows:
            raise AssertionError("an encoder must give one row for each row")
        sizes[split] = _Sizes(lengths, losses)
    return sizes


def _length_summary(lengths: NDArray[np.int64]) -> dict[str, float]:
    """Return percentiles and the mean of the lengths of rows (n,)."""
    percentiles = np.percentile(lengths, [5, 50, 95, 100]).tolist()
    summary = dict(zip(("p5", "p50", "p95", "max"), percentiles, strict=True))
    return summary | {"mean": float(lengths.mean())}


def _input_profile(
    job: Job, schema: base.Schema, values: Mapping[str, Sequence[Any]]
) -> dict[str, Any]:
    """Return the profile of the inputs of train, with the params of clean that shape them.

    Args:
        job: tokenize.
        schema: of the pipeline.
        values: input column -> values of the train rows.
    """
    clean = job.sections["clean"]
    shaping = schema.options["clean"].model_fields
    shaped_by = {}
    for name, value in clean.model_dump(mode="json").items():
        if name in shaping:
            shaped_by[name] = value
    profile = profile_of(values, schema.fields(clean), shaped_by)
    return {**profile, **base.inputs_entry(schema.chosen)}


def _report(
    job: Job,
    rows: int,
    lengths: Mapping[str, float],
    shortened: Sequence[Mapping[str, Any]],
) -> None:
    """Write the report, and log what was encoded and what was cut.

    Args:
        rows: number of encoded rows.
        lengths: of `_length_summary`.
        shortened: of `_shortened`.
    """
    report: dict[str, Any] = {"rows": rows}
    if shortened:
        report["cut_rows"] = sum(entry["rows"] for entry in shortened)
    for name, value in lengths.items():
        report[f"length_{name}"] = value
    write_atomic(job.outputs["report"], to_json(report))
    mean = lengths["mean"]
    p95 = lengths["p95"]
    job.journal.log(f"{rows:,} rows encoded, {mean:.1f} tokens a row (95%: up to {p95:.0f})")
    for entry in shortened:
        job.journal.log(entry["message"])


def _shortened(encoder: base.Encoder, sizes: Sequence[_Sizes]) -> list[dict[str, Any]]:
    """Return what the encoder cut from the rows of clean, for the report.

    Args:
        encoder: of the task.
        sizes: of the rows of each split.

    Returns:
        One entry, or none where it cut nothing.
    """
    if not isinstance(encoder, base.Shortens):
        return []
    lost = np.concatenate([part.losses for part in sizes])
    lengths = np.concatenate([part.lengths for part in sizes])
    is_cut = lost > 0
    if not is_cut.any():
        return []
    total_lost = int(lost.sum())
    # Tokens of the rows that were cut, before they were.
    whole_lengths = lost + lengths
    whole = int(whole_lengths[is_cut].sum())
    cut_rows = int(is_cut.sum())
    summary = Summary(cut_rows, len(lost), total_lost, whole, {})
    return [
        {
            "what": "tokens_cut",
            "rows": summary.changed,
            "of": summary.rows,
            "message": encoder.describe_cuts(summary),
            "share_lost": round(total_lost / whole, 6),
        }
    ]


def encode(piece: EncodeInput) -> tuple[pa.Table, NDArray[np.int64]]:
    """Encode rows, as a Ray task.

    Args:
        piece: rows of one split, and the files of the encoder.

    Returns:
        The encoded rows; (rows,) tokens that each row lost.
    """
    encoder = base.encoding(piece.task).load(piece.encoder)
    encoded = encoder.encode(piece.rows)
    if isinstance(encoder, base.Shortens):
        return encoded, encoder.losses(piece.rows, encoded)
    return encoded, np.zeros(piece.rows.num_rows, np.int64)
