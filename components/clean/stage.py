"""clean: every raw row is kept, quarantined, dropped as a duplicate or filtered, and the books must balance."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from components.clean.duplicates import Clusters, settle_equal, similar_rows
from components.clean.frozen import Frozen, divide, read
from components.clean.params import CleanParams
from components.clean.split import stratified
from components.clean.unlabelled import nameless, settle
from components.core.errors import InputError
from components.core.files import to_json, write_atomic
from components.core.job import Job
from components.core.spread import spread
from components.core.tables import read_table, write_table
from components.fields.base import Reject
from components.tasks import base

_ROWS_PER_TASK = 4000
_SPLITS = ("train", "validation", "test")
_SPLIT_NAMES = {"train": "train", "training": "train", "validation": "validation", "valid": "validation", "val": "validation", "dev": "validation", "test": "test"}


@dataclass(frozen=True)
class Piece:
    """Some raw rows and what is needed to clean them."""

    task: str
    params: CleanParams
    rows: pa.Table


@dataclass(frozen=True)
class Cleaned:
    """What became of a piece: columns of the rows that can be used, and the others with their reason."""

    rows: dict[str, list[Any]]
    keys: list[str]
    signatures: dict[str, list[NDArray[np.uint64] | None]]
    rejected: list[dict[str, str]]
    unlabelled: list[dict[str, Any]]


def run(job: Job) -> None:
    """Clean, deduplicate and split `raw` into `clean`; keep the naive view in `audit`."""
    params: CleanParams = job.params
    schema = base.schema(job.task)
    inputs = [role.name for role in schema.roles if role.role == "input"]
    target = next(role.name for role in schema.roles if role.role == "target")
    raw = read_table(job.inputs["raw"])
    rows, keys, signatures, rejected, nameless_rows = _clean_all(job, raw)
    naive = pa.table({name: rows[name] for name in ("id", *inputs, target)}, schema=_schema(schema.roles, with_split=False))
    write_table(job.outputs["audit"], {"naive": naive})

    frozen = _frozen(job, rows, keys)
    gone = _superfluous(keys, rows[target], rows["split"], params)
    merged = _small_classes([label for row, label in enumerate(rows[target]) if row not in gone], params, job)
    if merged:
        rows[target] = [merged.get(label, label) for label in rows[target]]
        gone = _superfluous(keys, rows[target], rows["split"], params)
    rejected += [_rejected(rows, row, reason, inputs[0], target) for row, reason in gone.items() if reason in ("conflicting_labels", "boilerplate")]
    kept = [row for row in range(len(keys)) if row not in gone]

    clusters, pairs = _cluster(rows, signatures, kept, inputs, schema, params)
    groups = [hashlib.sha256(keys[kept[clusters.find(position)]].encode()).hexdigest()[:16] for position in range(len(kept))]
    labels = [rows[target][row] for row in kept]
    _check_classes(labels, params)
    if frozen:
        held = frozen.held([keys[row] for row in kept])
        fed = {position for position, row in enumerate(kept) if rows["id"][row].startswith(base.FEEDBACK)}
        splits, leaking = divide(frozen, held, groups, fed, params, job.seed)
        groups = [frozen.groups[held[position]] if position in held and splits[position] != "train" else group for position, group in enumerate(groups)]
    else:
        splits, leaking = _split(rows, kept, groups, labels, params, job.seed)

    table = pa.table(
        {
            **{name: [rows[name][row] for row in kept] for name in ("id", *inputs)},
            target: labels,
            "split": splits,
            "group": groups,
        },
        schema=_schema(schema.roles, with_split=True),
    )
    places = sorted(range(len(kept)), key=lambda i: held.get(i, len(frozen.keys))) if frozen else range(len(kept))  # as it was, wherever the source has put its rows since
    parts = {split: table.take(pa.array([i for i in places if splits[i] == split and i not in leaking], pa.int64())) for split in _SPLITS}
    unlabelled, twice = settle(nameless_rows, set(keys), target, _schema(schema.roles, with_split=True))
    reasons = Counter(entry["reason"] for entry in rejected)
    books = {
        "rows_in": raw.num_rows,
        "rows_out": sum(part.num_rows for part in (*parts.values(), *unlabelled.values())),
        "quarantined": sum(n for reason, n in reasons.items() if reason != "boilerplate"),
        "filtered": reasons["boilerplate"],
        "deduplicated": sum(reason == "duplicate" for reason in gone.values()) + len(leaking) + twice,
    }
    if books["rows_in"] != sum(value for name, value in books.items() if name != "rows_in"):
        raise AssertionError(f"the books of clean do not balance: {books}")
    classes = sorted(set(labels))
    _check_train(parts["train"][target].to_pylist(), classes)
    facts = {
        "books": books,
        "reasons": dict(sorted(reasons.items())),
        "near_duplicate_pairs": pairs,
        "classes": classes,
        "merged_classes": merged,
        "splits": {split: dict(zip(classes, _count(part[target].to_pylist(), classes), strict=True)) for split, part in parts.items()},
    }
    parts |= unlabelled
    write_table(job.outputs["clean"], parts, facts)
    order = sorted(rejected, key=lambda entry: (entry["reason"], entry["origin"], entry["id"]))
    write_table(job.outputs["clean"] / "quarantine", {"rows": pa.Table.from_pylist(order, schema=pa.schema([(name, pa.string()) for name in ("id", "origin", "label", "reason", "excerpt")]))})
    report = books | {"classes": len(classes), "near_duplicate_pairs": pairs, **{split: part.num_rows for split, part in parts.items()}}
    write_atomic(job.outputs["report"], to_json(report))
    job.journal.say(f"{books['rows_in']:,} rows: {books['rows_out']:,} kept, {books['deduplicated']:,} duplicates, {books['filtered']:,} boilerplate, {books['quarantined']:,} quarantined")


def _frozen(job: Job, rows: dict[str, list[Any]], keys: Sequence[str]) -> Frozen | None:
    """The split that stays as it was, if there is one; its rows of test and validation are marked as if the source had said so."""
    path = job.params.frozen_split
    if path is None:
        return None
    if any(rows["split"]):
        job.journal.say("the source says itself what is test: clean.frozen_split is not needed")
        return None
    frozen = read(job.root / path, path)
    claimed = frozen.claim(keys, rows["id"])
    for row, place in claimed.items():
        rows["split"][row] = frozen.splits[place]
    here, tests = (sum(frozen.splits[place] == "test" for place in places) for places in (claimed.values(), range(len(frozen.keys))))
    job.journal.say(f"the split is kept: {here:,} of its {tests:,} test rows are in the source, and {len(keys) - len(claimed):,} rows that it does not know")
    return frozen


def _superfluous(keys: Sequence[str], labels: Sequence[str], splits: Sequence[str | None], params: CleanParams) -> dict[int, str]:
    """Rows that go, and why: duplicates, conflicts, boilerplate. Canonical evaluation rows are nobody's furniture."""
    gone = settle_equal(keys, labels, splits, params.conflicts)
    counts = Counter(keys)
    if params.boilerplate:
        gone |= {row: "boilerplate" for row, key in enumerate(keys) if counts[key] >= params.boilerplate and splits[row] not in ("test", "validation")}
    return gone


def _clean_all(job: Job, raw: pa.Table) -> tuple[dict[str, list[Any]], list[str], dict[str, list[Any]], list[dict[str, str]], list[dict[str, Any]]]:
    pieces = [Piece(job.task, job.params, raw.slice(start, _ROWS_PER_TASK)) for start in range(0, raw.num_rows, _ROWS_PER_TASK)]
    rows: dict[str, list[Any]] = {}
    keys: list[str] = []
    signatures: dict[str, list[Any]] = {}
    rejected: list[dict[str, str]] = []
    unlabelled: list[dict[str, Any]] = []
    for number, piece in enumerate(spread(clean_piece, pieces), 1):
        for name, values in piece.rows.items():
            rows.setdefault(name, []).extend(values)
        for name, values in piece.signatures.items():
            signatures.setdefault(name, []).extend(values)
        keys += piece.keys
        rejected += piece.rejected
        unlabelled += piece.unlabelled
        job.journal.progress(min(number * _ROWS_PER_TASK, raw.num_rows), raw.num_rows, "rows")
    if not keys:
        reasons = Counter(entry["reason"] for entry in rejected)
        raise InputError(f"no row can be used: {dict(reasons)}", where="clean", remedy="look at the source and at ingest.columns, then run the same command again")
    if len(set(rows["id"])) != len(rows["id"]):
        twice = next(name for name, count in Counter(rows["id"]).items() if count > 1)
        raise InputError(f"id {twice!r} stands more than once", where="ingest.columns.id", remedy="name another column as id, or none")
    return rows, keys, signatures, rejected, unlabelled


def clean_piece(piece: Piece) -> Cleaned:
    """Row-wise cleaning, as a Ray task."""
    schema = base.schema(piece.task)
    fields = schema.fields(piece.params)
    inputs = [role.name for role in schema.roles if role.role == "input"]
    target = next(role.name for role in schema.roles if role.role == "target")
    rows: dict[str, list[Any]] = {name: [] for name in ("id", "origin", "group", "split", target, *inputs)}
    keys: list[str] = []
    signatures: dict[str, list[Any]] = {name: [] for name in inputs} if piece.params.near_duplicates < 1 else {}
    rejected: list[dict[str, str]] = []
    unlabelled: list[dict[str, Any]] = []
    for row in piece.rows.to_pylist():
        try:
            values = {name: fields[name].clean(row[name]) for name in (*inputs, target)}
            values["split"] = _own_split(row["split"])
        except Reject as error:
            if error.reason == "no_label" and piece.params.unlabelled == "keep" and (found := nameless(row, fields, inputs)):
                unlabelled.append(found)
                continue
            shown = row[inputs[0]]
            excerpt = shown[:200] if isinstance(shown, str) else error.detail
            rejected.append({"id": row["id"], "origin": row["origin"], "label": row[target] or "", "reason": error.reason, "excerpt": excerpt})
            continue
        for name in ("id", "origin", "group"):
            rows[name].append(row[name])
        for name, value in values.items():
            rows[name].append(value)
        keys.append(base.row_key(fields, inputs, values))
        for name in signatures:
            signatures[name].append(fields[name].signature(values[name]))
    return Cleaned(rows, keys, signatures, rejected, unlabelled)


def _own_split(name: str | None) -> str | None:
    if name is None:
        return None
    if name.strip().lower() not in _SPLIT_NAMES:
        raise Reject("unknown_split", name)
    return _SPLIT_NAMES[name.strip().lower()]


def _cluster(rows: Mapping[str, list[Any]], signatures: Mapping[str, list[Any]], kept: Sequence[int], inputs: Sequence[str], schema: base.Schema, params: CleanParams) -> tuple[Clusters, int]:
    """Join near-duplicates, and rows with the source's own group key."""
    clusters = Clusters(len(kept))
    pairs = 0
    if schema.split.near_duplicates and params.near_duplicates < 1:
        columns = {name: [rows[name][row] for row in kept] for name in inputs}
        bands = {name: [signatures[name][row] for row in kept] for name in inputs}
        pairs = similar_rows(columns, schema.fields(params), bands, params.near_duplicates, clusters)
    first: dict[str, int] = {}
    for position, row in enumerate(kept):
        if rows["group"][row] is not None:
            clusters.join(first.setdefault(rows["group"][row], position), position)
    return clusters, pairs


def _split(rows: Mapping[str, list[Any]], kept: Sequence[int], groups: Sequence[str], labels: Sequence[str], params: CleanParams, seed: int) -> tuple[list[str], set[int]]:
    """The source's own splits where it has them, else ours. Returns splits and the positions of train rows that leak into a canonical split."""
    own = [rows["split"][row] for row in kept]
    if not any(own):
        return stratified(groups, labels, params.validation_share, params.test_share, seed), set()
    splits = [split or "train" for split in own]
    if "test" not in splits:
        raise InputError("the source's split column names no test rows", where="ingest.columns.split", remedy="map no split column, so that one is made")
    reserved = {group for group, split in zip(groups, splits, strict=True) if split != "train"}
    leaking = {i for i, split in enumerate(splits) if split == "train" and groups[i] in reserved}
    if "validation" not in splits:
        train = [i for i, split in enumerate(splits) if split == "train" and i not in leaking]
        for i, split in zip(train, stratified([groups[i] for i in train], [labels[i] for i in train], params.validation_share, 0.001, seed), strict=True):
            splits[i] = "validation" if split != "train" else "train"
    return splits, leaking


def _small_classes(labels: Sequence[str], params: CleanParams, job: Job) -> dict[str, str]:
    """Classes that are merged into `other`, by rule and said aloud."""
    small = sorted(name for name, count in Counter(labels).items() if count < params.min_rows_per_class)
    if params.small_classes == "refuse" or not small:
        return {}
    job.journal.say(f"{len(small)} small classes are merged into 'other': {', '.join(small[:10])}")
    return dict.fromkeys(small, "other")


def _check_classes(labels: Sequence[str], params: CleanParams) -> None:
    counts = Counter(labels)
    if len(counts) < 2:
        left = ", ".join(counts) or "not even one"
        raise InputError(f"only one class is left after cleaning: {left}; a classifier needs two", where="clean", remedy="bring rows of another class, or check ingest.columns.label")
    small = {name: count for name, count in sorted(counts.items()) if count < params.min_rows_per_class}
    if small:
        raise InputError(
            f"classes with fewer than {params.min_rows_per_class} usable rows: {small}",
            where="clean.min_rows_per_class",
            remedy=f"bring more rows, or lower clean.min_rows_per_class{', or set clean.small_classes: merge' if params.small_classes == 'refuse' else ''}",
        )


def _check_train(labels: Sequence[str], classes: Sequence[str]) -> None:
    """The source's own splits may hold a class back."""
    if missing := sorted(set(classes) - set(labels)):
        raise InputError(f"no train row is left of: {', '.join(missing)}", where="ingest.columns.split", remedy="bring train rows of it that validation and test do not hold, or map no split column")


def _rejected(rows: Mapping[str, list[Any]], row: int, reason: str, shown: str, target: str) -> dict[str, str]:
    value = rows[shown][row]
    return {"id": rows["id"][row], "origin": rows["origin"][row], "label": rows[target][row], "reason": reason, "excerpt": value[:200] if isinstance(value, str) else ""}


def _count(labels: Sequence[str], classes: Sequence[str]) -> list[int]:
    counts = Counter(labels)
    return [counts[name] for name in classes]


def _schema(roles: Sequence[base.Role], with_split: bool) -> pa.Schema:
    columns = [("id", pa.string()), *((role.name, role.field.arrow) for role in roles if role.role in ("input", "target"))]
    return pa.schema(columns + ([("split", pa.string()), ("group", pa.string())] if with_split else []))
