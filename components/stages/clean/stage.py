"""clean: every raw row is kept, quarantined, dropped as a duplicate or filtered, and the books must balance."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from components.core.cache import Cache
from components.core.files import to_json, write_atomic
from components.core.job import Job
from components.core.tables import read_table, write_table
from components.stages.clean import row_accounting
from components.stages.clean.cleaning import inputs_of, target_of
from components.stages.clean.duplicates import (
    BOILERPLATE,
    DUPLICATE,
    OWN_SPLITS,
    REASONS,
    STAYS,
    Rows,
)
from components.stages.clean.frozen_split import Frozen, divide, read
from components.stages.clean.params import CleanParams
from components.stages.clean.partition import (
    check_classes,
    check_train,
    group_rows,
    settle_rows,
    split_rows,
)
from components.stages.clean.unique_rows import gather
from components.stages.clean.unlabeled import settle
from components.stages.clean.usable_rows import Usable, rejected_rows, usable_rows
from components.tasks import base

_SPLITS = ("train", "validation", "test")
_QUARANTINE = pa.schema(
    [(name, pa.string()) for name in ("id", "origin", "label", "reason", "excerpt")]
)


def run(job: Job) -> None:
    """Clean, deduplicate and split `raw` into `clean`; keep the naive view in `audit`."""
    params: CleanParams = job.params
    schema = base.schema(job.task)
    memo = Cache(job.cache, job.journal.log)
    raw = _roomy(read_table(job.inputs["raw"]), schema)
    pool = gather(job, raw, memo)
    rows = usable_rows(raw, pool, schema)
    write_table(job.outputs["audit"], {"naive": rows.table(np.arange(len(rows.labels)))})

    rejected = rejected_rows(raw, pool, schema)
    log = row_accounting.RowAccounting(job.journal)
    log.add(row_accounting.refused_by_ingest(job.inputs["raw"] / "quarantine", raw.num_rows))
    log.add(row_accounting.quarantined(rejected, raw.num_rows, schema.fields(params)))
    log.add(row_accounting.changed(rows, schema.fields(params)))
    frozen = _frozen(job, rows)
    settled = settle_rows(rows, params)
    dedup_status = settled.dedup_status
    log.add(row_accounting.merged(settled, params))
    kept = np.flatnonzero(dedup_status == STAYS)
    equality = schema.fields(params)[inputs_of(schema)[0]].equality
    log.add(row_accounting.dropped(rows, dedup_status, params, equality))
    grouped = group_rows(job.task, params, job.seed, rows, kept, memo)
    log.add(row_accounting.grouped(grouped.pairs, len(kept)))
    groups = grouped.names
    labels = [rows.names[label] for label in rows.labels[kept].tolist()]
    for line in row_accounting.doubtful_labels(Counter(labels)):
        job.journal.log(line)
    check_classes(labels, params, [entry.message for entry in log.entries if entry.removes])
    held: dict[int, int] = {}
    if frozen:
        held, groups, (splits, leaking) = _as_frozen(frozen, rows, kept, groups, params, job.seed)
    else:
        splits, leaking = split_rows(rows, kept, grouped, labels, params)

    places = np.array(
        sorted(range(len(kept)), key=lambda i: held.get(i, len(frozen.keys)))
        if frozen
        else range(len(kept))
    )  # as it was, wherever the source has put its rows since
    places = places[~np.isin(places, list(leaking))]
    given, with_split = np.array(splits), _schema(schema)
    chosen = {split: places[given[places] == split] for split in _SPLITS}
    parts = {
        split: _part(rows.table(kept[own]), split, [groups[i] for i in own.tolist()], with_split)
        for split, own in chosen.items()
    }
    unlabelled, twice = settle(*rows.unlabelled(), rows.all_keys(), target_of(schema), with_split)
    log.add(row_accounting.leaking(len(leaking), len(kept)))
    rejected += rows.described(np.flatnonzero(dedup_status > DUPLICATE), dedup_status)
    reasons = Counter(entry["reason"] for entry in rejected)
    books = {
        "rows_in": raw.num_rows,
        "rows_out": sum(part.num_rows for part in (*parts.values(), *unlabelled.values())),
        "quarantined": sum(n for reason, n in reasons.items() if reason != REASONS[BOILERPLATE]),
        "filtered": reasons[REASONS[BOILERPLATE]],
        "deduplicated": int((dedup_status == DUPLICATE).sum()) + len(leaking) + twice,
    }
    _check_books(books)
    facts = {
        "books": books,
        "reasons": dict(sorted(reasons.items())),
        "near_duplicate_pairs": grouped.pairs,
        "equality": equality,
        "merged_classes": dict(settled.merged),
        "account": [entry.facts() for entry in log.entries],
        **_counted(parts, sorted(set(labels)), target_of(schema)),
    }
    _write(job, parts | unlabelled, facts, rejected)
    memo.close()


def _as_frozen(
    frozen: Frozen,
    rows: Usable,
    kept: Rows,
    groups: Sequence[str],
    params: CleanParams,
    seed: int,
) -> tuple[dict[int, int], list[str], tuple[list[str], set[int]]]:
    """Return which frozen row each kept row is, the groups, and the splits with leaking rows.

    A row that is held out keeps the name of its group.
    """
    held = frozen.held(rows.keys(kept))
    ids = rows.ids()
    fed = set()
    for position, row in enumerate(kept.tolist()):
        if ids[row].startswith(base.FEEDBACK):
            fed.add(position)
    splits, leaking = divide(frozen, held, groups, fed, params, seed)
    named = list(groups)
    for position in held:
        if splits[position] != "train":
            named[position] = frozen.groups[held[position]]
    return held, named, (splits, leaking)


def _check_books(books: Mapping[str, int]) -> None:
    """Check that each row is kept, quarantined, filtered or a duplicate."""
    outcomes = sum(value for name, value in books.items() if name != "rows_in")
    if books["rows_in"] != outcomes:
        raise AssertionError(f"the books of clean do not balance: {books}")


def _roomy(raw: pa.Table, schema: base.Schema) -> pa.Table:
    """With 64-bit offsets of the inputs: Arrow lays a column's chunks end to end before it takes rows from it, and 32 bits end at 2 GiB."""
    large = {
        name: pa.large_binary()
        if pa.types.is_binary(raw.schema.field(name).type)
        else pa.large_string()
        for name in inputs_of(schema)
    }
    return raw.cast(
        pa.schema(
            [(name, large.get(name, raw.schema.field(name).type)) for name in raw.column_names]
        )
    )


def _write(
    job: Job,
    parts: Mapping[str, pa.Table],
    facts: Mapping[str, Any],
    rejected: Sequence[Mapping[str, str]],
) -> None:
    """Table, quarantine and report."""
    write_table(job.outputs["clean"], parts, facts)
    order = sorted(rejected, key=lambda entry: (entry["reason"], entry["origin"], entry["id"]))
    write_table(
        job.outputs["clean"] / "quarantine",
        {"rows": pa.Table.from_pylist(order, schema=_QUARANTINE)},
    )
    books = facts["books"]
    report = (
        books
        | {f"{entry['what']}_rows": entry["rows"] for entry in facts["account"]}
        | {
            "classes": len(facts["classes"]),
            "near_duplicate_pairs": facts["near_duplicate_pairs"],
            **{split: part.num_rows for split, part in parts.items()},
        }
    )
    write_atomic(job.outputs["report"], to_json(report))
    job.journal.log(
        f"{books['rows_in']:,} rows: {books['rows_out']:,} kept, {books['deduplicated']:,} duplicates, {books['filtered']:,} boilerplate, {books['quarantined']:,} quarantined"
    )


def _frozen(job: Job, rows: Usable) -> Frozen | None:
    """The split that stays as it was, if there is one; its rows of test and validation are marked as if the source had said so."""
    path = job.params.frozen_split
    if path is None:
        return None
    if rows.splits.any():
        job.journal.log("the source says itself what is test: clean.frozen_split is not needed")
        return None
    frozen = read(job.root / path, path)
    claimed = frozen.claim(rows.keys(), rows.ids())
    for row, place in claimed.items():
        rows.splits[row] = OWN_SPLITS.index(frozen.splits[place])
    here, tests = (
        sum(frozen.splits[place] == "test" for place in places)
        for places in (claimed.values(), range(len(frozen.keys)))
    )
    job.journal.log(
        f"the split is kept: {here:,} of its {tests:,} test rows are in the source, and {len(rows.labels) - len(claimed):,} rows that it does not know"
    )
    return frozen


def _part(rows: pa.Table, split: str, groups: Sequence[str], schema: pa.Schema) -> pa.Table:
    facts = {
        "split": pa.array([split] * rows.num_rows, pa.string()),
        "group": pa.array(groups, pa.string()),
    }
    return pa.table(
        {name: facts[name] if name in facts else rows[name] for name in schema.names}, schema=schema
    )


def _counted(parts: Mapping[str, pa.Table], classes: Sequence[str], target: str) -> dict[str, Any]:
    """The classes, and how many rows of each every part has.

    Raises:
        InputError: train has none of one.
    """
    counts = {split: Counter(part[target].to_pylist()) for split, part in parts.items()}
    check_train(list(counts["train"]), classes)
    return {
        "classes": classes,
        "splits": {split: {name: own[name] for name in classes} for split, own in counts.items()},
    }


def _schema(schema: base.Schema) -> pa.Schema:
    columns = [
        ("id", pa.string()),
        *(
            (role.name, role.field.arrow)
            for role in schema.roles
            if role.role in ("input", "target")
        ),
    ]
    return pa.schema([*columns, ("split", pa.string()), ("group", pa.string())])
