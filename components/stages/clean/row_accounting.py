"""What clean did to the rows: lines for people, figures for the report."""

from __future__ import annotations

import json
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from components.core import escaping
from components.core.job import Journal
from components.core.tables import MANIFEST, read_table
from components.fields.base import Field, Summary
from components.stages.clean.duplicates import BOILERPLATE, CONFLICTING, DUPLICATE, Rows
from components.stages.clean.params import CleanParams
from components.stages.clean.partition import SettledRows
from components.stages.clean.usable_rows import Usable

_EXAMPLES = 3
_EXCERPT = 40
# Names that people write where there is no label.
_MISSING = frozenset(
    (
        "n/a",
        "na",
        "n.a.",
        "nan",
        "nil",
        "none",
        "null",
        "-",
        "--",
        "?",
        "unknown",
        "missing",
        "undefined",
        "无",
        "空",
        "未知",
    )
)


@dataclass(frozen=True)
class Entry:
    """One thing that happened to rows."""

    what: str  # short stable name
    rows: int  # to how many
    of: int  # of how many
    message: str
    removes: bool = False  # whether these rows are gone
    share_lost: float | None = None  # of the content of these rows

    def facts(self) -> dict[str, Any]:
        """Return what the manifest and the report hold."""
        entry = {"what": self.what, "rows": self.rows, "of": self.of, "message": self.message}
        return entry | (
            {"share_lost": round(self.share_lost, 6)} if self.share_lost is not None else {}
        )


class RowAccounting:
    """All that happened so far; each entry is printed as it comes.

    Args:
        journal: where lines are printed.
    """

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self.entries: list[Entry] = []

    def add(self, entries: Sequence[Entry]) -> None:
        """Print entries and keep them."""
        for entry in entries:
            self._journal.log(entry.message)
        self.entries += entries


def changed(rows: Usable, fields: Mapping[str, Field]) -> list[Entry]:
    """Return what cleaning took from values that stay: cut, resized and the like."""
    total = len(rows.place) + len(rows.nameless)
    counts, lost, whole = (
        Counter[tuple[str, str]](),
        Counter[tuple[str, str]](),
        Counter[tuple[str, str]](),
    )
    details: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for changes, count in rows.changes():
        for column, kinds in json.loads(changes).items():
            for kind, (amount, before, detail) in kinds.items():
                key = (column, kind)
                counts[key] += count
                lost[key] += amount * count
                whole[key] += before * count
                details[key][detail] += count
    entries = []
    for column, kind in sorted(counts):
        key = (column, kind)
        summary = Summary(
            counts[key], total, lost[key], whole[key], dict(details[key].most_common())
        )
        message = fields[column].tell(kind, summary)
        entries.append(
            Entry(
                f"{column}_{kind}",
                counts[key],
                total,
                message,
                share_lost=lost[key] / whole[key],
            )
        )
    return entries


def quarantined(
    rejected: Sequence[Mapping[str, str]], rows: int, fields: Mapping[str, Field]
) -> list[Entry]:
    """Return how many rows were refused for each reason, and where the first of them stand."""
    by_reason: dict[str, list[str]] = defaultdict(list)
    for entry in rejected:
        by_reason[entry["reason"]].append(entry["origin"])
    remedies: dict[str, str] = {}
    for field in fields.values():
        remedies |= field.knobs
    entries = []
    for reason, origins in sorted(by_reason.items()):
        remedy = f": {remedies[reason]}" if reason in remedies else ""
        message = (
            f"{len(origins):,} of {rows:,} rows quarantined as {reason} ({_first(origins)}){remedy}"
        )
        entries.append(Entry(reason, len(origins), rows, message, removes=True))
    return entries


def refused_by_ingest(folder: Path, rows: int) -> list[Entry]:
    """Return how many rows of the source never came here, by reason.

    Args:
        folder: the quarantine of ingest; it may be away.
        rows: that came.
    """
    if not (folder / MANIFEST).is_file():
        return []
    by_reason: dict[str, list[str]] = defaultdict(list)
    for row in read_table(folder, columns=["origin", "reason"]).to_pylist():
        by_reason[row["reason"]].append(row["origin"])
    total = rows + sum(map(len, by_reason.values()))
    return [
        Entry(
            f"ingest_{reason}",
            len(origins),
            total,
            f"{len(origins):,} of {total:,} rows of the source were quarantined by ingest as "
            f"{reason} ({_first(origins)})",
            removes=True,
        )
        for reason, origins in sorted(by_reason.items())
    ]


def dropped(
    rows: Usable, dedup_status: NDArray[np.int8], params: CleanParams, equality: str
) -> list[Entry]:
    """Return what became of equal rows: duplicates, conflicts and boilerplate."""
    total, entries = len(dedup_status), []
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
            f"{len(conflicting):,} of {total:,} rows dropped: {equality}, with different labels "
            f"({_conflicts(rows, conflicting)}): clean.conflicts"
        )
        entries.append(Entry("conflicting_labels", len(conflicting), total, message, removes=True))
    often = np.flatnonzero(dedup_status == BOILERPLATE)
    if len(often):
        _, first, counts = np.unique(rows.equal[often], return_index=True, return_counts=True)
        common = np.argsort(-counts, kind="stable")[:_EXAMPLES]
        examples = ", ".join(
            f"{name}: {counts[index]:,} times"
            for name, index in zip(_names(rows, often[first[common]]), common.tolist(), strict=True)
        )
        message = (
            f"{len(often):,} of {total:,} rows dropped as boilerplate, which occurs "
            f"{params.boilerplate} times or more ({examples}): clean.boilerplate"
        )
        entries.append(Entry("boilerplate", len(often), total, message, removes=True))
    return entries


def merged(settled: SettledRows, params: CleanParams) -> list[Entry]:
    """Return which classes were merged for having few rows."""
    classes = settled.merged
    if not classes:
        return []
    names = ", ".join(escaping.terminal(name) for name in sorted(classes)[:10])
    more = ", …" if len(classes) > 10 else ""
    message = (
        f"{len(classes):,} small classes are merged into 'other' ({names}{more}), for having "
        f"fewer than {params.min_rows_per_class} rows: clean.small_classes"
    )
    return [Entry("merged_classes", settled.small, settled.stayed, message)]


def grouped(pairs: int, rows: int) -> list[Entry]:
    """Return how many similar pairs there are; they are kept."""
    if not pairs:
        return []
    noun = "pair of similar rows was" if pairs == 1 else "pairs of similar rows were"
    return [
        Entry(
            "near_duplicates",
            pairs,
            rows,
            f"{pairs:,} {noun} kept, each on one side of the split: clean.near_duplicates",
        )
    ]


def leaking(count: int, of: int) -> list[Entry]:
    """Return how many rows are similar to one of a split that must not change."""
    message = (
        f"{count:,} of {of:,} rows dropped: similar to a row of test or validation: "
        "clean.near_duplicates"
    )
    return [Entry("leaking", count, of, message, removes=True)] if count else []


def doubtful_labels(counts: Mapping[str, int]) -> list[str]:
    """Return lines about labels that may be meant as one, or as none."""
    alike: dict[str, list[str]] = defaultdict(list)
    for name in sorted(counts):
        alike[_folded(name)].append(name)
    lines = []
    for names in alike.values():
        if len(names) > 1:
            listed = ", ".join(f"'{escaping.terminal(name)}' {counts[name]:,}" for name in names)
            lines.append(
                "labels alike but for case, width or spaces count as different classes "
                f"({listed}): ingest.label_case: fold, or ingest.labels"
            )
    for name in sorted(counts):
        if _folded(name) in _MISSING:
            label = escaping.terminal(name)
            lines.append(
                f"the label '{label}' of {counts[name]:,} rows counts as a class; "
                f"if it means none: ingest.labels: {{{json.dumps(label, ensure_ascii=False)}: "
                f"null}}"
            )
    return lines


def _folded(name: str) -> str:
    """Return a label as a person reads it: without case, width, spaces and invisible characters."""
    folded = unicodedata.normalize("NFKC", name).casefold()
    return "".join(
        char for char in folded if not char.isspace() and unicodedata.category(char)[0] != "C"
    )


def _conflicts(rows: Usable, conflicting: Rows) -> str:
    """Return which labels disagree most often, and examples."""
    keys, first = np.unique(rows.equal[conflicting], return_index=True)
    disputed = np.isin(rows.equal, keys)
    labels: dict[int, set[str]] = defaultdict(set)
    for key, label in zip(
        rows.equal[disputed].tolist(), rows.labels[disputed].tolist(), strict=True
    ):
        labels[key].add(rows.names[label])
    pairs = Counter(" and ".join(sorted(names)[:_EXAMPLES]) for names in labels.values())
    most = "; ".join(
        f"{escaping.terminal(pair)}: {count:,}" for pair, count in pairs.most_common(_EXAMPLES)
    )
    examples = ", ".join(_names(rows, conflicting[np.sort(first)[:_EXAMPLES]]))
    return f"{most}; for example {examples}"


def _names(rows: Usable, chosen: Rows) -> list[str]:
    """Return what some rows are called: the beginning of their text, or where they come from."""
    first = next(role.name for role in rows.schema.roles if role.role == "input")
    values = rows.values(first, chosen).to_pylist()
    return [
        f"'{_shortened(value)}'" if isinstance(value, str) else origin
        for value, origin in zip(values, rows.origins(chosen), strict=True)
    ]


def _first(origins: Sequence[str]) -> str:
    """Return the first few origins."""
    more = ", …" if len(origins) > _EXAMPLES else ""
    return ", ".join(escaping.terminal(origin) for origin in origins[:_EXAMPLES]) + more


def _shortened(text: str) -> str:
    """Return the beginning of a text."""
    plain = escaping.terminal(text)
    return plain if len(plain) <= _EXCERPT else plain[: _EXCERPT - 1] + "…"
