"""What clean would do with the first rows of a source: the same fields, the same keys."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel

from components.clean.rows import inputs_of, target_of
from components.core.errors import InputError
from components.fields.base import Reject
from components.ingest.rows import RefusedRow
from components.tasks import base
from components.tasks.base import Setting

# Beyond this the first rows stand for all: cleaning takes longer than reading.
_ROWS = 20_000
_BYTES = 30_000_000
_REFUSALS = 5
# clean refuses a smaller limit: one row each for train, validation and test
_LEAST = 3


@dataclass
class DryClean:
    """Rows that were cleaned for a look, and what became of them."""

    looked: int = 0
    size: int = 0
    # whether each row of the source was looked at
    whole: bool = True
    refused: Counter[str] = field(default_factory=Counter)
    refusals: list[RefusedRow] = field(default_factory=list)
    # SHA-256 of the inputs -> rows by label
    labels_of: dict[bytes, Counter[str]] = field(default_factory=dict)

    @property
    def often(self) -> dict[bytes, Counter[str]]:
        """Return the inputs that occur ten times or more."""
        return {key: labels for key, labels in self.labels_of.items() if labels.total() >= 10}

    @property
    def conflicts(self) -> int:
        """Return the rows whose inputs are equal and whose labels are not."""
        return sum(counts.total() for counts in self.labels_of.values() if len(counts) > 1)

    @property
    def duplicates(self) -> int:
        """Return the rows that repeat one with the same label."""
        agreeing = [counts for counts in self.labels_of.values() if len(counts) == 1]
        return sum(counts.total() - 1 for counts in agreeing)

    def targets(self, boilerplate: int) -> Counter[str]:
        """Return the rows of each target that are left without repetitions and conflicts.

        Args:
            boilerplate: inputs that occur this often go; 0: none.
        """
        left: Counter[str] = Counter()
        for labels in self.labels_of.values():
            if len(labels) > 1 or (boilerplate and labels.total() >= boilerplate):
                continue
            left.update(labels.keys())
        return left


def watched(
    rows: Iterable[Mapping[str, Any]],
    task: str,
    options: BaseModel,
    dry: DryClean,
) -> Iterator[Mapping[str, Any]]:
    """Yield the rows as they are, after a look at what clean makes of them.

    Args:
        rows: raw rows.
        task: its id.
        options: the section `clean`.
        dry: is brought up to date on the way.
    """
    schema = base.schema(task)
    fields, inputs, target = schema.fields(options), inputs_of(schema), target_of(schema)
    for row in rows:
        if dry.looked >= _ROWS or dry.size >= _BYTES:
            dry.whole = False
        else:
            dry.looked += 1
            dry.size += sum(len(row[name] or "") for name in inputs)
            _look(row, fields, inputs, target, dry)
        yield row


def _look(
    row: Mapping[str, Any],
    fields: Mapping[str, Any],
    inputs: list[str],
    target: str,
    dry: DryClean,
) -> None:
    label = row[target]
    try:
        values = {name: fields[name].clean(row[name]) for name in inputs}
        label = fields[target].clean(label)
    except Reject as reject:
        if label is not None:
            dry.refused[reject.reason] += 1
            if len(dry.refusals) < _REFUSALS:
                dry.refusals.append(RefusedRow(row["origin"], reject.reason, reject.detail))
        return
    key = hashlib.sha256(base.row_key(fields, inputs, values).encode()).digest()
    dry.labels_of.setdefault(key, Counter())[label] += 1


def repeated_inputs(dry: DryClean) -> list[Setting]:
    """Return the setting that keeps one of each frequent input, where these have one label each.

    An input that occurs often under different labels says nothing: clean drops it.
    """
    often = dry.often
    agreeing = [labels for labels in often.values() if len(labels) == 1]
    if not often or len(agreeing) < len(often):
        return []
    reason = "inputs that occur 10 times or more have one label each: they are no boilerplate"
    return [Setting("clean.boilerplate", 0, reason)]


def small_targets(dry: DryClean, boilerplate: int, least: int) -> list[Setting]:
    """Return settings for targets with too few rows, which clean would refuse.

    Args:
        dry: what clean would do.
        boilerplate: clean.boilerplate.
        least: clean.min_rows_per_class.

    Raises:
        InputError: fewer than two targets are left.
    """
    left = dry.targets(boilerplate)
    if not dry.whole:
        return []
    if len(left) < 2:
        raise _too_few(dry, left)
    small = {name: count for name, count in left.items() if count < least}
    if not small:
        return []
    smallest, count = min(small.items(), key=lambda item: (item[1], item[0]))
    reason = f"{smallest!r} has {_rows(count)}"
    if len(small) > 1:
        reason = f"{len(small):,} classes have fewer than {least:,} usable rows, {reason}"
    lowered = Setting("clean.min_rows_per_class", max(count, _LEAST), reason)
    if count >= _LEAST:
        return [lowered]
    rare = [name for name, rows in small.items() if rows < _LEAST]
    merged = sum(small[name] for name in rare)
    if merged < _LEAST:
        verb = "have together" if len(rare) > 1 else "has"
        what = f"{', '.join(map(repr, rare[:5]))} {verb} {_rows(merged)}: {_LEAST} are needed"
        remedy = "bring more rows of these classes"
        # Two classes must be left.
        if len(left) - len(rare) >= 2:
            remedy += f', or drop them: --labels "{",".join(f"{name}=" for name in rare)}"'
        raise InputError(what, where="--data", remedy=remedy)
    why = f"{len(rare):,} classes have fewer than {_LEAST} rows and become 'other'"
    return [lowered, Setting("clean.small_classes", "merge", why)]


def _too_few(dry: DryClean, left: Mapping[str, int]) -> InputError:
    """Return why clean would leave fewer than two classes."""
    only = ", ".join(map(repr, left)) or "not even one"
    reasons = [f"{count:,} {reason}" for reason, count in dry.refused.items()]
    if dry.conflicts:
        reasons.append(f"{dry.conflicts:,} equal inputs with different labels")
    why = ", ".join(reasons) or "the rest repeats others"
    first = f"; the first: {dry.refusals[0]}" if dry.refusals else ""
    what = f"only one class is left of {dry.looked:,} rows after cleaning: {only} ({why}{first})"
    return InputError(what, where="--data", remedy="bring more rows, or check --text and --label")


def _rows(count: int) -> str:
    return "1 usable row" if count == 1 else f"{count:,} usable rows"
