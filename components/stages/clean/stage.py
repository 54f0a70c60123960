"""Stage clean: each raw row is kept, quarantined, dropped as a duplicate or filtered."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from components.core.cache import Cache
from components.core.errors import InputError
from components.core.files import to_json, write_atomic
from components.core.job import Job
from components.core.mapped_tables import take
from components.core.tables import TableWriter, map_table, read_manifest
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
from components.stages.clean.quarantine import Quarantine
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
from components.stages.clean.unlabeled import SPLIT as UNLABELED
from components.stages.clean.unlabeled import UnlabeledSplit, split_unlabeled
from components.stages.clean.usable_rows import TIME, Usable, rejected_rows, usable_rows
from components.tasks import base

_SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class _Division:
    """The split of the rows that stay.

    Args:
        order: (rows,) positions in the order of the output, without those that no split gets.
        row_splits: of the positions.
        splits: (positions,) numbers of _SPLITS.
        groups: (positions,) name of the group of each.
    """

    order: Rows
    row_splits: RowSplits
    splits: NDArray[np.int8]
    groups: pa.DictionaryArray

    def positions(self, split: str) -> Rows:
        """Return the positions of a split in the order of the output."""
        chosen: Rows = self.order[self.splits[self.order] == _SPLITS.index(split)]
        return chosen


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
    raw = _raw_table(job, schema)
    unique_rows = gather(job, schema, raw, cache)
    rows = usable_rows(raw, unique_rows, schema)
    _write_audit(job, rows)
    quarantine = Quarantine(job.state, target_of(schema))
    rejected = quarantine.add(rejected_rows(raw, unique_rows, schema, fields), "rejected")
    accounting = row_accounting.RowAccounting(job.journal)
    refused = job.inputs["raw"] / "quarantine"
    accounting.add(row_accounting.refused_by_ingest(refused, raw.num_rows))
    accounting.add(row_accounting.quarantined(rejected, raw.num_rows, fields))
    accounting.add(row_accounting.changed(rows, fields))
    frozen = _frozen(job, rows)
    decisions = decide_rows(rows, params)
    dedup_status = decisions.dedup_status
    accounting.add(row_accounting.merged(decisions, rules, params))
    kept = np.flatnonzero(dedup_status == STAYS)
    equality = fields[base.input_names(schema)[0]].equality
    accounting.add(row_accounting.dropped(rows, dedup_status, params, equality))
    grouped = group_rows(job.task, params, job.seed, rows, kept, cache, job.state)
    accounting.add(row_accounting.grouped(grouped.pairs, len(kept)))
    targets = rows.targets(kept)
    for message in rules.doubts(Counter(targets)):
        job.journal.log(message)
    causes = [entry.message for entry in accounting.entries if entry.removes]
    rules.check(targets, params, causes)
    division = _divide(job, frozen, rows, kept, grouped, rules.strata(targets))

    accounting.add(_split_entries(rows, kept, division, params))

    unlabeled = _unlabeled(rows, kept, division)
    accounting.add(row_accounting.held_out(unlabeled.held_out, len(rows.unlabeled_rows)))
    dropped = np.flatnonzero(dedup_status > DUPLICATE)
    quarantine.add(rows.described(dropped, dedup_status), "dropped")
    reason_counts = quarantine.reasons()
    duplicates = int((dedup_status == DUPLICATE).sum()) + unlabeled.duplicates
    totals = _totals(raw.num_rows, rules, reason_counts, division, unlabeled, duplicates)
    targets_of = {split: rows.targets(kept[division.positions(split)]) for split in _SPLITS}
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
    columns = _schema(schema, by_time=splits_by_time(rows, params))
    parts = chain(
        _split_parts(rows, kept, division, columns),
        _unlabeled_parts(rows, unlabeled.positions, columns),
    )
    quarantine.write(job.outputs["clean"] / "quarantine")
    _write(job, schema, parts, manifest)
    cache.close()


def _write_audit(job: Job, rows: Usable) -> None:
    """Write all usable rows, for the view that neither deduplicates nor groups them."""
    writer = TableWriter(job.outputs["audit"])
    for window in rows.windows(np.arange(len(rows.target_ids))):
        writer.write("naive", rows.table(window))
    writer.close()


def _totals(
    raw_rows: int,
    rules: base.TargetRules,
    reason_counts: Mapping[str, int],
    division: _Division,
    unlabeled: UnlabeledSplit,
    duplicates: int,
) -> dict[str, int]:
    """Return how many rows had each outcome.

    Args:
        raw_rows: number of raw rows.
        rules: of the task.
        reason_counts: rows of the quarantine by reason.
        division: the split of the rows that stay.
        unlabeled: the rows without a target.
        duplicates: rows that equal another one.

    Raises:
        AssertionError: the numbers do not add up.
    """
    filters = {reasons(rules.conflict_reason)[BOILERPLATE], *FILTER_REASONS}
    filtered = sum(rows for reason, rows in reason_counts.items() if reason in filters)
    totals = {
        "rows_in": raw_rows,
        "rows_out": len(division.order) + len(unlabeled.positions),
        "quarantined": sum(reason_counts.values()) - filtered,
        "filtered": filtered,
        "deduplicated": duplicates + len(division.row_splits.leaking),
    }
    optional = {"embargoed": len(division.row_splits.embargoed), "held_out": unlabeled.held_out}
    totals |= {name: rows for name, rows in optional.items() if rows}
    _check_totals(totals)
    return totals


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
    order = np.arange(len(kept))
    groups = grouped.names
    if frozen is None:
        row_splits = split_rows(rows, kept, grouped, strata, job.params)
    else:
        held, names, row_splits = _as_frozen(job, frozen, rows, kept, groups.to_pylist())
        groups = pa.array(names).dictionary_encode()
        # In the order of the frozen split, wherever the source has put the rows since.
        last = len(frozen.keys)
        order = np.array(sorted(order.tolist(), key=lambda position: held.get(position, last)))
    order = order[~np.isin(order, list(row_splits.dropped))]
    numbers = map(_SPLITS.index, row_splits.splits)
    splits = np.fromiter(numbers, np.int8, len(row_splits.splits))
    return _Division(order, row_splits, splits, groups)


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
    ids = rows.ids(kept)
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


def _unlabeled(rows: Usable, kept: Rows, division: _Division) -> UnlabeledSplit:
    """Return the split of the rows without a target.

    Args:
        rows: all usable rows.
        kept: (positions,) rows that stay.
        division: their splits.
    """
    if not len(rows.unlabeled_rows):
        return UnlabeledSplit(np.empty(0, np.int64), duplicates=0, held_out=0)
    keys = rows.unique_rows.codes("key", rows.unlabeled_rows)
    groups = take(rows.raw["group"], rows.unlabeled_rows)
    is_held_out = division.splits != _SPLITS.index("train")
    held_out = rows.groups(kept[is_held_out])
    return split_unlabeled(keys, groups, rows.key_ids, held_out)


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
    entries = row_accounting.leaking(len(row_splits.leaking), len(kept), params)
    entries += row_accounting.embargoed(len(row_splits.embargoed), len(kept), params)
    if rows_are_cases(rows, params):
        entries += _shared_inputs(rows, kept, division)
    not_tested = len(division.order) - len(division.positions("test"))
    entries += row_accounting.after_test(row_splits.after_test, not_tested)
    return entries


def _shared_inputs(rows: Usable, kept: Rows, division: _Division) -> list[row_accounting.Entry]:
    """Return how many held-out rows have the inputs of a row of an earlier split.

    Args:
        rows: all usable rows.
        kept: (positions,) rows that stay.
        division: their splits.
    """
    earlier = np.empty(0, np.int64)
    shared = 0
    for split in _SPLITS:
        own = rows.key_ids[kept[division.positions(split)]]
        shared += int(np.isin(own, earlier).sum())
        earlier = np.union1d(earlier, own)
    count = len(division.order)
    held_out = count - len(division.positions("train"))
    return row_accounting.shared_inputs(shared, held_out, len(earlier), count)


def _split_parts(
    rows: Usable,
    kept: Rows,
    division: _Division,
    schema: pa.Schema,
) -> Iterator[tuple[str, pa.Table]]:
    """Yield the rows of each split, no more than a shard at once.

    Args:
        rows: all usable rows.
        kept: (positions,) rows that stay.
        division: their splits and groups.
        schema: of the clean table.
    """
    for split in _SPLITS:
        for positions in _shards(rows, kept, division.positions(split)):
            table = rows.table(kept[positions])
            if TIME in schema.names:
                table = table.append_column(TIME, pa.array(rows.moments(kept[positions])))
            groups = division.groups.take(pa.array(positions)).dictionary_decode()
            yield split, _part(table, split, groups, schema)


def _unlabeled_parts(
    rows: Usable, positions: Rows, schema: pa.Schema
) -> Iterator[tuple[str, pa.Table]]:
    """Yield the rows without a target, no more than a shard at once.

    Args:
        rows: usable rows, and those without a target.
        positions: of the rows without a target.
        schema: of the clean table.
    """
    for window in rows.unique_rows.windows(rows.unlabeled_rows[positions]):
        groups = rows.unique_rows.column("group", window)
        yield UNLABELED, _part(rows.unlabelled(window), UNLABELED, groups, schema)


def _shards(rows: Usable, kept: Rows, positions: Rows) -> Iterator[Rows]:
    """Yield parts of positions as large as a shard may be; an empty part where there are none.

    Args:
        rows: usable rows.
        kept: rows at all positions.
        positions: of a split.
    """
    if not len(positions):
        yield positions
    first = 0
    for window in rows.windows(kept[positions]):
        yield positions[first : first + len(window)]
        first += len(window)


def _part(
    rows: pa.Table,
    split: str,
    groups: pa.Array,
    schema: pa.Schema,
) -> pa.Table:
    """Return rows with their split and their groups. Columns that they lack are null."""
    added = {
        "split": pa.array([split] * rows.num_rows, pa.string()),
        "group": groups,
    }
    columns = {}
    for field in schema:
        if field.name in added:
            columns[field.name] = added[field.name]
        elif field.name in rows.column_names:
            columns[field.name] = rows[field.name]
        else:
            columns[field.name] = pa.nulls(rows.num_rows, field.type)
    return pa.table(columns, schema=schema)


def _check_totals(totals: Mapping[str, int]) -> None:
    """Check that each row is kept, quarantined, filtered or a duplicate.

    Raises:
        AssertionError: the numbers do not add up.
    """
    outcomes = sum(value for name, value in totals.items() if name != "rows_in")
    if totals["rows_in"] != outcomes:
        raise AssertionError(f"the books of clean do not balance: {totals}")


def _raw_table(job: Job, schema: base.Schema) -> pa.Table:
    """Return the raw table, mapped from a file, with 64-bit offsets of the inputs.

    Values of several rows are joined, and offsets of 32 bits end at 2 GiB.
    """
    inputs = base.input_names(schema)
    kinds = read_manifest(job.inputs["raw"])["schema"]
    types = {name: large(pa.type_for_alias(kinds[name])) for name in inputs}
    return map_table(job.inputs["raw"], job.state / "raw.arrow", types=types)


def _write(
    job: Job,
    schema: base.Schema,
    parts: Iterable[tuple[str, pa.Table]],
    manifest: Mapping[str, Any],
) -> None:
    """Write table and report.

    Args:
        job: clean.
        schema: of the pipeline.
        parts: splits with some of their rows.
        manifest: of the clean table.
    """
    writer = TableWriter(job.outputs["clean"])
    for split, table in parts:
        writer.write(split, table)
    written = writer.close(manifest)
    totals = manifest["books"]
    report = dict(totals)
    for entry in manifest["account"]:
        report[f"{entry['what']}_rows"] = entry["rows"]
    report |= schema.targets.count(schema.targets.info(manifest))
    report["near_duplicate_pairs"] = manifest["near_duplicate_pairs"]
    report |= written["parts"]
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
    all_rows = np.arange(len(rows.target_ids))
    claimed = frozen.claim(rows.keys(all_rows), rows.ids(all_rows))
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
