"""Accounting of the rows in clean: messages for the log, numbers for the report."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from components.core import escaping
from components.core.job import Journal
from components.core.mapped_tables import take_rows
from components.core.tables import MANIFEST, read_table
from components.fields.base import Field, Summary
from components.fields.text import FILTER_REASONS, PERSONAL_DATA
from components.stages.clean.duplicates import BOILERPLATE, CONFLICTING, DUPLICATE, Rows
from components.stages.clean.params import CleanParams, near_duplicate_threshold
from components.stages.clean.row_groups import RowDecisions
from components.stages.clean.usable_rows import Usable
from components.tasks import base
from components.tasks.base import TargetRules

_EXAMPLES = 3
_EXCERPT = 40


@dataclass(frozen=True)
class Entry:
    """One thing that happened to rows.

    Args:
        what: short stable name of it.
        rows: number of rows that it happened to.
        of: number of rows that it could have happened to.
        message: for the log.
        removes: whether these rows are dropped.
        share_lost: of the content of these rows, 0-1.
    """

    what: str
    rows: int
    of: int
    message: str
    removes: bool = False
    share_lost: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the entry for the manifest and the report."""
        entry: dict[str, Any] = {
            "what": self.what,
            "rows": self.rows,
            "of": self.of,
            "message": self.message,
        }
        if self.share_lost is not None:
            entry["share_lost"] = round(self.share_lost, 6)
        return entry


@dataclass
class _ChangeTotal:
    """Totals of one kind of change in one column.

    Args:
        rows: number of rows with the change.
        lost: amount that cleaning took.
        whole: amount before.
        details: rows by detail.
    """

    rows: int = 0
    lost: int = 0
    whole: int = 0
    details: Counter[str] = field(default_factory=Counter)


class RowAccounting:
    """Entries of all that happened to rows; each one is logged when it is added.

    Args:
        journal: where messages are logged.
    """

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self.entries: list[Entry] = []

    def add(self, entries: Sequence[Entry]) -> None:
        """Log entries and store them."""
        for entry in entries:
            self._journal.log(entry.message)
        self.entries += entries


def changed(rows: Usable, fields: Mapping[str, Field]) -> list[Entry]:
    """Return what cleaning took from values that stay: cut, resized and the like.

    Args:
        rows: usable rows.
        fields: of all columns.
    """
    total = len(rows.raw_rows) + len(rows.unlabeled_rows)
    totals = _change_totals(rows)
    entries = []
    for column, kind in sorted(totals):
        change = totals[column, kind]
        details = dict(change.details.most_common())
        summary = Summary(change.rows, total, change.lost, change.whole, details)
        share_lost = change.lost / change.whole if change.whole else None
        entries.append(
            Entry(
                what=f"{column}_{kind}",
                rows=change.rows,
                of=total,
                message=fields[column].describe_change(kind, summary),
                share_lost=share_lost,
            )
        )
    return entries


def _change_totals(rows: Usable) -> dict[tuple[str, str], _ChangeTotal]:
    """Return the totals of all changes by column and kind."""
    totals: dict[tuple[str, str], _ChangeTotal] = defaultdict(_ChangeTotal)
    for changes, count in rows.changes():
        for column, kinds in json.loads(changes).items():
            for kind, (lost, whole, detail) in kinds.items():
                total = totals[column, kind]
                total.rows += count
                total.lost += lost * count
                total.whole += whole * count
                total.details[detail] += count
    return totals


def quarantined(
    rejected: pa.Table,
    rows: int,
    fields: Mapping[str, Field],
) -> list[Entry]:
    """Return how many rows were rejected for each reason, and the first of them.

    Filtered texts are shown by their beginning, and other rows by where they are, also those with
    personal data.

    Args:
        rejected: rows of the quarantine.
        rows: number of all rows.
        fields: of all columns; they know the param that concerns a reason.
    """
    remedies: dict[str, str] = {}
    for column in fields.values():
        remedies |= column.knobs
    entries = []
    for reason, count, first in _by_reason(rejected):
        remedy = ""
        if reason in remedies:
            remedy = f": {remedies[reason]}"
        verb = "quarantined"
        examples = _first([entry["origin"] for entry in first])
        if reason in FILTER_REASONS:
            verb = "filtered"
        if reason in FILTER_REASONS and reason != PERSONAL_DATA:
            shown = [f"'{_shortened(entry['excerpt'])}'" for entry in first[:_EXAMPLES]]
            examples = ", ".join(shown)
        message = f"{count:,} of {rows:,} rows {verb} as {reason} ({examples}){remedy}"
        entries.append(Entry(reason, count, rows, message, removes=True))
    return entries


def _by_reason(rejected: pa.Table) -> Iterator[tuple[str, int, list[dict[str, str]]]]:
    """Yield each reason, the number of its rows, and its first rows: one more than are shown.

    Args:
        rejected: rows with their reasons.
    """
    reasons = rejected["reason"]
    for reason in sorted(reasons.unique().to_pylist()):
        matches = np.flatnonzero(pc.equal(reasons, reason).to_numpy(zero_copy_only=False))
        first = take_rows(rejected, matches[: _EXAMPLES + 1])
        yield reason, len(matches), first.to_pylist()


def refused_by_ingest(folder: Path, rows: int) -> list[Entry]:
    """Return how many rows of the source ingest has quarantined, by reason.

    Args:
        folder: the quarantine of ingest; it may not exist.
        rows: number of rows of the raw table.
    """
    if not (folder / MANIFEST).is_file():
        return []
    refused = read_table(folder, columns=["origin", "reason"])
    total = rows + refused.num_rows
    entries = []
    for reason, count, first in _by_reason(refused):
        origins = [row["origin"] for row in first]
        message = (
            f"{count:,} of {total:,} rows of the source were quarantined by ingest as "
            f"{reason} ({_first(origins)})"
        )
        entries.append(Entry(f"ingest_{reason}", count, total, message, removes=True))
    return entries


def dropped(
    rows: Usable,
    dedup_status: NDArray[np.int8],
    params: CleanParams,
    equality: str,
) -> list[Entry]:
    """Return how many rows were dropped as duplicates, conflicts and boilerplate.

    Args:
        rows: usable rows.
        dedup_status: (rows,) numbers of `reasons`.
        params: of clean.
        equality: how equal rows are alike.
    """
    total = len(dedup_status)
    entries = []
    duplicates = int((dedup_status == DUPLICATE).sum())
    if duplicates:
        message = (
            f"{duplicates:,} of {total:,} rows dropped as duplicates of a row that stays "
            f"({equality})"
        )
        entries.append(Entry("duplicate", duplicates, total, message, removes=True))
    conflicting = np.flatnonzero(dedup_status == CONFLICTING)
    if len(conflicting):
        message = (
            f"{len(conflicting):,} of {total:,} rows dropped: {equality}, "
            f"{_conflicts(rows, conflicting)}"
        )
        reason = rows.schema.targets.conflict_reason
        entries.append(Entry(reason, len(conflicting), total, message, removes=True))
    frequent = np.flatnonzero(dedup_status == BOILERPLATE)
    if len(frequent):
        message = (
            f"{len(frequent):,} of {total:,} rows dropped as boilerplate, which occurs "
            f"{params.boilerplate} times or more ({_most_frequent(rows, frequent)}): "
            "clean.boilerplate"
        )
        entries.append(Entry("boilerplate", len(frequent), total, message, removes=True))
    return entries


def _most_frequent(rows: Usable, frequent: Rows) -> str:
    """Return examples of boilerplate, and how often they occur."""
    _, first, counts = np.unique(rows.key_ids[frequent], return_index=True, return_counts=True)
    common = np.argsort(-counts, kind="stable")[:_EXAMPLES]
    names = _names(rows, frequent[first[common]])
    examples = []
    for name, index in zip(names, common.tolist(), strict=True):
        examples.append(f"{name}: {counts[index]:,} times")
    return ", ".join(examples)


def merged(decisions: RowDecisions, rules: TargetRules, params: CleanParams) -> list[Entry]:
    """Return how many rows have a rare target that was merged with others."""
    if not decisions.merged:
        return []
    message = rules.describe_merged(decisions.merged, params)
    return [Entry(rules.merge_reason, decisions.merged_rows, decisions.stayed, message)]


def grouped(pairs: int, rows: int) -> list[Entry]:
    """Return how many pairs of similar rows there are; they stay."""
    if not pairs:
        return []
    noun = "pairs of similar rows were"
    if pairs == 1:
        noun = "pair of similar rows was"
    message = f"{pairs:,} {noun} kept, each on one side of the split: clean.near_duplicates"
    return [Entry("near_duplicates", pairs, rows, message)]


def leaking(count: int, of: int, params: CleanParams) -> list[Entry]:
    """Return how many rows were dropped because a held-out row is similar or of their group.

    Args:
        count: rows that were dropped.
        of: rows that were split.
        params: of clean.
    """
    if not count:
        return []
    reason = "similar to a row of test or validation: clean.near_duplicates"
    if near_duplicate_threshold(params) == 1:
        reason = "with the inputs or the group of a row of test or validation: ingest.columns.group"
    message = f"{count:,} of {of:,} rows dropped: {reason}"
    return [Entry("leaking", count, of, message, removes=True)]


def embargoed(count: int, of: int, params: CleanParams) -> list[Entry]:
    """Return how many rows were left out because their time is too near validation or test.

    Args:
        count: rows that were left out.
        of: rows that were split.
        params: of clean.
    """
    if not count:
        return []
    reason = "just before validation or test"
    if params.frozen_split is not None:
        reason = "from the time of the frozen test rows, or just before validation"
        if params.embargo_days:
            reason = "near the time of the frozen test rows, or just before validation"
    message = f"{count:,} of {of:,} rows left out: {reason}: clean.embargo_days"
    return [Entry("embargo", count, of, message, removes=True)]


def held_out(count: int, of: int) -> list[Entry]:
    """Return how many rows without a target were left out because of their group.

    Args:
        count: rows that were left out.
        of: rows without a target.
    """
    if not count:
        return []
    message = (
        f"{count:,} of {of:,} rows without a target left out: a row of their group is held out"
    )
    return [Entry("held_out", count, of, message, removes=True)]


def after_test(count: int, of: int) -> list[Entry]:
    """Return how many rows of train and validation are later than the frozen test rows.

    Args:
        count: these rows.
        of: rows of train and validation.
    """
    if not count:
        return []
    message = (
        f"{count:,} of {of:,} rows of train and validation are later than the test rows, which a "
        "frozen split keeps: metrics of test are not those of the future. "
        "clean.frozen_split: null tests the latest rows"
    )
    return [Entry("after_test", count, of, message)]


def shared_inputs(
    count: int,
    of: int,
    different: int,
    rows: int,
) -> list[Entry]:
    """Return how many held-out rows have the inputs of a row of an earlier split.

    Args:
        count: these rows.
        of: rows of validation and test.
        different: number of different inputs.
        rows: number of rows that were split.
    """
    if not count:
        return []
    message = (
        f"{count:,} of {of:,} rows of validation and test have the inputs of a row of an earlier "
        f"split: {rows:,} rows have {different:,} different inputs, and each row is a case of its "
        "own. ingest.columns.group keeps rows in one split"
    )
    return [Entry("shared_inputs", count, of, message)]


def _conflicts(rows: Usable, conflicting: Rows) -> str:
    """Return how the targets of equal inputs differ, with examples of the inputs."""
    keys, first = np.unique(rows.key_ids[conflicting], return_index=True)
    disputed = np.flatnonzero(np.isin(rows.key_ids, keys))
    disputed_keys = rows.key_ids[disputed].tolist()
    targets: dict[int, set[Any]] = defaultdict(set)
    for key, target in zip(disputed_keys, rows.targets(disputed), strict=True):
        targets[key].add(target)
    examples = ", ".join(_names(rows, conflicting[np.sort(first)[:_EXAMPLES]]))
    return rows.schema.targets.describe_conflicts(list(targets.values()), examples)


def _names(rows: Usable, chosen: Rows) -> list[str]:
    """Return names of some rows: the beginning of their text, or where they come from."""
    first = base.input_names(rows.schema)[0]
    values = rows.values(first, chosen).to_pylist()
    names = []
    for value, origin in zip(values, rows.origins(chosen), strict=True):
        if isinstance(value, str):
            names.append(f"'{_shortened(value)}'")
        else:
            names.append(origin)
    return names


def _first(origins: Sequence[str]) -> str:
    """Return the first few origins."""
    names = ", ".join(escaping.terminal(origin) for origin in origins[:_EXAMPLES])
    if len(origins) > _EXAMPLES:
        return names + ", …"
    return names


def _shortened(text: str) -> str:
    """Return the beginning of a text."""
    plain = escaping.terminal(text)
    if len(plain) <= _EXCERPT:
        return plain
    return plain[: _EXCERPT - 1] + "…"
