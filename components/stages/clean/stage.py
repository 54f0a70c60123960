"""Stage clean: each raw row is kept, quarantined, dropped as a duplicate or filtered."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from components.core.cache import Cache
from components.core.errors import InputError
from components.core.files import to_json, write_atomic
from components.core.job import Job
from components.core.tables import read_manifest, read_table, write_table
from components.fields.text import FILTER_REASONS
from components.stages.clean import row_accounting
from components.stages.clean.cleaning import large, target_of
from components.stages.clean.duplicates import (
    BOILERPLATE,
    DUPLICATE,
    OWN_SPLITS,
    STAYS,
    Rows,
    reasons,
)
from components.stages.clean.frozen_split import FrozenSplit, divide, divide_by_time, read
from components.stages.clean.params import CleanParams
from components.stages.clean.row_groups import (
    Groups,
    decide_rows,
    group_rows,
    rows_are_cases,
    split_rows,
    splits_by_time,
)
from components.stages.clean.split import RowSplits
from components.stages.clean.unique_rows import gather
from components.stages.clean.unlabeled import split_unlabeled
from components.stages.clean.usable_rows import TIME, Usable, rejected_rows, usable_rows
from components.tasks import base

_SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class _Division:
    """The split of the rows that stay.

    Args:
        order: (rows,) positions in the order of the output, without those that no split gets.
        row_splits: of the positions.
        groups: (positions,) group of each.
    """

    order: Rows
    row_splits: RowSplits
    groups: Sequence[str]


def run(job: Job) -> None:
    """Clean, deduplicate and split `raw` into `clean`; write the naive view to `audit`.

    Raises:
        InputError: no row can be used, an id is repeated, or the task cannot learn from the rows.
        AssertionError: the numbers of rows do not add up.
    """
    params: CleanParams = job.params
    chosen = base.chosen_inputs(read_manifest(job.inputs["raw"]))
    schema = base.schema(job.task).with_inputs(chosen)
    fields = schema.fields(params)
    rules = schema.targets
    cache = Cache(job.cache, job.journal.log)
    raw = _with_large_offsets(read_table(job.inputs["raw"]), schema)
    unique_rows = gather(job, schema, raw, cache)
    rows = usable_rows(raw, unique_rows, schema)
    write_table(job.outputs["audit"], {"naive": rows.table(np.arange(len(rows.target_ids)))})

    rejected = rejected_rows(raw, unique_rows, schema, fields)
    accounting = row_accounting.RowAccounting(job.journal)
    quarantine = job.inputs["raw"] / "quarantine"
    accounting.add(row_accounting.refused_by_ingest(quarantine, raw.num_rows))
    accounting.add(row_accounting.quarantined(rejected, raw.num_rows, fields))
    accounting.add(row_accounting.changed(rows, fields))
    frozen = _frozen(job, rows)
    decisions = decide_rows(rows, params)
    dedup_status = decisions.dedup_status
    accounting.add(row_accounting.merged(decisions, rules, params))
    kept = np.flatnonzero(dedup_status == STAYS)
    equality = fields[base.input_names(schema)[0]].equality
    accounting.add(row_accounting.dropped(rows, dedup_status, params, equality))
    grouped = group_rows(job.task, params, job.seed, rows, kept, cache)
    accounting.add(row_accounting.grouped(grouped.pairs, len(kept)))
    targets = rows.targets(kept)
    for message in rules.doubts(Counter(targets)):
        job.journal.log(message)
    causes = [entry.message for entry in accounting.entries if entry.removes]
    rules.check(targets, params, causes)
    division = _divide(job, frozen, rows, kept, grouped, rules.strata(targets))

    accounting.add(_split_entries(rows, kept, division, params))

    columns = _schema(schema, by_time=splits_by_time(rows, params))
    target = target_of(schema)
    parts = _parts(rows, kept, division, columns)
    held_out = _held_out_groups(rows, kept, division)
    unlabeled = split_unlabeled(*rows.unlabelled(), rows.all_keys(), held_out, target, columns)
    accounting.add(row_accounting.held_out(unlabeled.held_out, len(rows.unlabeled_rows)))
    rejected += rows.described(np.flatnonzero(dedup_status > DUPLICATE), dedup_status)
    reason_counts = Counter(entry["reason"] for entry in rejected)
    all_parts = parts | unlabeled.parts
    duplicates = int((dedup_status == DUPLICATE).sum())
    filters = {reasons(rules.conflict_reason)[BOILERPLATE], *FILTER_REASONS}
    totals = {
        "rows_in": raw.num_rows,
        "rows_out": sum(part.num_rows for part in all_parts.values()),
        "quarantined": sum(n for reason, n in reason_counts.items() if reason not in filters),
        "filtered": sum(reason_counts[reason] for reason in filters),
        "deduplicated": duplicates + len(division.row_splits.leaking) + unlabeled.duplicates,
    }
    optional = {"embargoed": len(division.row_splits.embargoed), "held_out": unlabeled.held_out}
    totals |= {name: rows for name, rows in optional.items() if rows}
    _check_totals(totals)
    targets_of = {split: part[target].to_pylist() for split, part in parts.items()}
    rules.check_train(targets_of["train"], targets)
    manifest = {
        "books": totals,
        "reasons": dict(sorted(reason_counts.items())),
        "near_duplicate_pairs": grouped.pairs,
        "equality": equality,
        "account": [entry.as_dict() for entry in accounting.entries],
        **base.inputs_entry(chosen),
        **_flags(
            {base.ROWS_ARE_CASES: rows_are_cases(rows, params), base.HAS_GROUPS: grouped.are_named}
        ),
        **rules.describe(targets_of, decisions.merged),
    }
    _write(job, schema, all_parts, manifest, rejected)
    cache.close()


def _flags(flags: Mapping[str, bool]) -> dict[str, bool]:
    """Return the flags that are set."""
    return {name: True for name, value in flags.items() if value}


def _divide(
    job: Job,
    frozen: FrozenSplit | None,
    rows: Usable,
    kept: Rows,
    grouped: Groups,
    strata: Sequence[str],
) -> _Division:
    """Return the split of the rows that stay: the frozen one if there is one, else a new one.

    Args:
        frozen: the frozen split, if there is one.
        rows: all usable rows.
        kept: (positions,) rows that stay.
        grouped: groups of the rows that stay.
        strata: (positions,) of the rows that stay.
    """
    positions = list(range(len(kept)))
    if frozen is None:
        row_splits = split_rows(rows, kept, grouped, strata, job.params)
        groups: Sequence[str] = grouped.names
    else:
        held, groups, row_splits = _as_frozen(job, frozen, rows, kept, grouped.names)
        # In the order of the frozen split, wherever the source has put the rows since.
        last = len(frozen.keys)
        positions.sort(key=lambda position: held.get(position, last))
    order = np.array(positions)
    order = order[~np.isin(order, list(row_splits.dropped))]
    return _Division(order, row_splits, groups)


def _as_frozen(
    job: Job,
    frozen: FrozenSplit,
    rows: Usable,
    kept: Rows,
    groups: Sequence[str],
) -> tuple[dict[int, int], list[str], RowSplits]:
    """Return the split of the rows that stay by a frozen split.

    A row that is held out keeps the name of its group.

    Args:
        frozen: the frozen split.
        rows: all usable rows.
        kept: (positions,) rows that stay.
        groups: (positions,) names of their groups.

    Returns:
        Position -> row of the frozen split; groups; splits.
    """
    all_ids = rows.ids()
    ids = [all_ids[row] for row in kept.tolist()]
    held = frozen.claim(rows.keys(kept), ids)
    feedback = set()
    for position, name in enumerate(ids):
        if name.startswith(base.FEEDBACK):
            feedback.add(position)
    if splits_by_time(rows, job.params):
        row_splits = divide_by_time(
            frozen,
            held,
            groups,
            feedback=feedback,
            moments=rows.moments(kept),
            params=job.params,
            seed=job.seed,
        )
    else:
        row_splits = divide(frozen, held, groups, feedback, job.params, job.seed)
    names = list(groups)
    for position, row in held.items():
        if row_splits.splits[position] != "train":
            names[position] = frozen.groups[row]
    return held, names, row_splits


def _held_out_groups(rows: Usable, kept: Rows, division: _Division) -> set[str]:
    """Return the groups of the source that have a row of validation or test.

    Args:
        rows: all usable rows.
        kept: (positions,) rows that stay.
        division: their splits.
    """
    if not len(rows.unlabeled_rows):
        return set()
    splits = division.row_splits.splits
    named = rows.groups(kept)
    return {group for position, group in named if splits[position] != "train"}


def _split_entries(
    rows: Usable,
    kept: Rows,
    division: _Division,
    params: CleanParams,
) -> list[row_accounting.Entry]:
    """Return what the split did to rows.

    Args:
        rows: all usable rows.
        kept: (positions,) rows that stay.
        division: their splits.
        params: of clean.
    """
    row_splits = division.row_splits
    splits = np.array(row_splits.splits)[division.order]
    entries = row_accounting.leaking(len(row_splits.leaking), len(kept), params)
    entries += row_accounting.embargoed(len(row_splits.embargoed), len(kept), params)
    if rows_are_cases(rows, params):
        entries += _shared_inputs(rows, kept, division, splits)
    entries += row_accounting.after_test(row_splits.after_test, int((splits != "test").sum()))
    return entries


def _shared_inputs(
    rows: Usable,
    kept: Rows,
    division: _Division,
    splits: NDArray[np.str_],
) -> list[row_accounting.Entry]:
    """Return how many held-out rows have the inputs of a row of an earlier split.

    Args:
        rows: all usable rows.
        kept: (positions,) rows that stay.
        division: their splits.
        splits: in the order of the output.
    """
    keys = rows.key_ids[kept[division.order]]
    earlier = np.empty(0, np.int64)
    shared = 0
    for split in _SPLITS:
        own = keys[splits == split]
        shared += int(np.isin(own, earlier).sum())
        earlier = np.union1d(earlier, own)
    held_out = int((splits != "train").sum())
    return row_accounting.shared_inputs(shared, held_out, len(earlier), len(keys))


def _parts(
    rows: Usable,
    kept: Rows,
    division: _Division,
    schema: pa.Schema,
) -> dict[str, pa.Table]:
    """Return the table of each split.

    Args:
        rows: all usable rows.
        kept: (positions,) rows that stay.
        division: their splits and groups.
        schema: of the clean table.
    """
    splits = np.array(division.row_splits.splits)
    parts = {}
    for split in _SPLITS:
        positions = division.order[splits[division.order] == split]
        groups = [division.groups[position] for position in positions.tolist()]
        table = rows.table(kept[positions])
        if TIME in schema.names:
            table = table.append_column(TIME, pa.array(rows.moments(kept[positions])))
        parts[split] = _part(table, split, groups, schema)
    return parts


def _part(
    rows: pa.Table,
    split: str,
    groups: Sequence[str],
    schema: pa.Schema,
) -> pa.Table:
    """Return rows with the columns of their split and their groups."""
    added = {
        "split": pa.array([split] * rows.num_rows, pa.string()),
        "group": pa.array(groups, pa.string()),
    }
    columns = {}
    for name in schema.names:
        if name in added:
            columns[name] = added[name]
        else:
            columns[name] = rows[name]
    return pa.table(columns, schema=schema)


def _check_totals(totals: Mapping[str, int]) -> None:
    """Check that each row is kept, quarantined, filtered or a duplicate.

    Raises:
        AssertionError: the numbers do not add up.
    """
    outcomes = sum(value for name, value in totals.items() if name != "rows_in")
    if totals["rows_in"] != outcomes:
        raise AssertionError(f"the books of clean do not balance: {totals}")


def _with_large_offsets(raw: pa.Table, schema: base.Schema) -> pa.Table:
    """Return the raw table with 64-bit offsets of the inputs.

    Arrow concatenates the chunks of a column before it takes rows from it, and offsets of 32 bits
    end at 2 GiB.
    """
    inputs = base.input_names(schema)
    columns = []
    for field in raw.schema:
        kind = field.type
        if field.name in inputs:
            kind = large(kind)
        columns.append((field.name, kind))
    return raw.cast(pa.schema(columns))


def _write(
    job: Job,
    schema: base.Schema,
    parts: Mapping[str, pa.Table],
    manifest: Mapping[str, Any],
    rejected: Sequence[Mapping[str, str]],
) -> None:
    """Write table, quarantine and report.

    Args:
        job: clean.
        schema: of the pipeline.
        parts: split -> table.
        manifest: of the clean table.
        rejected: entries of the quarantine.
    """
    write_table(job.outputs["clean"], parts, manifest)
    entries = sorted(rejected, key=lambda entry: (entry["reason"], entry["origin"], entry["id"]))
    columns = ("id", "origin", target_of(schema), "reason", "excerpt")
    types = pa.schema([(name, pa.string()) for name in columns])
    quarantine = pa.Table.from_pylist(entries, schema=types)
    write_table(job.outputs["clean"] / "quarantine", {"rows": quarantine})
    totals = manifest["books"]
    report = dict(totals)
    for entry in manifest["account"]:
        report[f"{entry['what']}_rows"] = entry["rows"]
    report |= schema.targets.count(schema.targets.info(manifest))
    report["near_duplicate_pairs"] = manifest["near_duplicate_pairs"]
    for split, part in parts.items():
        report[split] = part.num_rows
    write_atomic(job.outputs["report"], to_json(report))
    filtered = "boilerplate"
    if not manifest["reasons"].keys().isdisjoint(FILTER_REASONS):
        filtered = "filtered"
    summary = (
        f"{totals['rows_in']:,} rows: {totals['rows_out']:,} kept, "
        f"{totals['deduplicated']:,} duplicates, {totals['filtered']:,} {filtered}, "
        f"{totals['quarantined']:,} quarantined"
    )
    if "embargoed" in totals:
        summary += f", {totals['embargoed']:,} left out by time"
    if "held_out" in totals:
        summary += f", {totals['held_out']:,} left out by group"
    job.journal.log(summary)


def _frozen(job: Job, rows: Usable) -> FrozenSplit | None:
    """Return the frozen split, if there is one.

    Its rows of test and validation are marked in place as if the source had named these splits.
    """
    path = job.params.frozen_split
    if path is None:
        return None
    if rows.has_splits:
        job.journal.log("the source says itself what is test: clean.frozen_split is not needed")
        return None
    frozen = read(job.root / path, path)
    claimed = frozen.claim(rows.keys(), rows.ids())
    # By time, train and validation are divided anew.
    by_time = splits_by_time(rows, job.params)
    for row, frozen_row in claimed.items():
        split = frozen.splits[frozen_row]
        if split == "test" or not by_time:
            rows.splits[row] = OWN_SPLITS.index(split)
    tests = frozen.splits.count("test")
    claimed_splits = [frozen.splits[frozen_row] for frozen_row in claimed.values()]
    present = claimed_splits.count("test")
    if not present:
        raise InputError(
            f"none of its {tests:,} test rows is in the source",
            where=f"clean.frozen_split: {path}",
            remedy="set clean.frozen_split: null for a split made anew",
        )
    unknown = len(rows.target_ids) - len(claimed)
    job.journal.log(
        f"the split is kept: {present:,} of its {tests:,} test rows are in the source, "
        f"and {unknown:,} rows that it does not know"
    )
    return frozen


def _schema(schema: base.Schema, *, by_time: bool) -> pa.Schema:
    """Return the schema of the clean table.

    Args:
        schema: of the pipeline.
        by_time: whether rows are split by time, and have one.
    """
    columns = [("id", pa.string())]
    for role in schema.roles:
        if role.role in ("input", "target"):
            columns.append((role.name, role.field.arrow))
    columns += [("split", pa.string()), ("group", pa.string())]
    if by_time:
        columns.append((TIME, pa.float64()))
    return pa.schema(columns)
