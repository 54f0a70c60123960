"""What clean would do with the first rows of a source: the same code, the same params."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from components.core.cache import Cache
from components.core.errors import InputError
from components.stages.clean.cleaning import (
    USABLE,
    clean_row,
    inputs_of,
    row_wise,
    target_of,
    unique_rows_schema,
)
from components.stages.clean.duplicates import STAYS
from components.stages.clean.params import CleanParams
from components.stages.clean.partition import (
    check_classes,
    check_train,
    group_rows,
    settle_rows,
    split_rows,
)
from components.stages.clean.unique_rows import UniqueRows
from components.stages.clean.usable_rows import Usable, usable_rows
from components.stages.ingest.source_rows import RefusedRow, Unit, settle_splits
from components.tasks import base
from components.tasks.base import Setting

# Beyond this the first rows stand for all: cleaning takes longer than reading.
_ROWS = 20_000
_BYTES = 30_000_000
# Beyond this near-duplicates are not looked for: it takes as long as cleaning.
_COMPARED_BYTES = 10_000_000
_REFUSALS = 5
# clean refuses a smaller limit: one row each for train, validation and test
_LEAST = 3


@dataclass
class FirstRows:
    """Raw rows that are kept for a look."""

    rows: list[Mapping[str, Any]] = field(default_factory=list)
    size: int = 0
    # whether each row of the source is kept
    whole: bool = True


@dataclass
class DryClean:
    """Rows that were cleaned for a look, and what became of them."""

    looked: int = 0
    # whether each row of the source was looked at
    whole: bool = True
    refused: Counter[str] = field(default_factory=Counter)
    refusals: list[RefusedRow] = field(default_factory=list)
    # SHA-256 of the inputs -> rows by label
    labels_of: dict[bytes, Counter[str]] = field(default_factory=dict)
    # rows that can be used, as clean has them before it divides them
    usable: list[dict[str, Any]] = field(default_factory=list)
    # their places in the source, and the source's own group keys
    origins: list[tuple[str, str | None]] = field(default_factory=list)
    # whether near-duplicates can be told
    compared: bool = True

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
    first: FirstRows,
) -> Iterator[Mapping[str, Any]]:
    """Yield the rows as they are, and keep the first of them.

    Args:
        rows: raw rows.
        task: its id.
        first: is filled on the way.
    """
    inputs = inputs_of(base.schema(task))
    for row in rows:
        if len(first.rows) >= _ROWS or first.size >= _BYTES:
            first.whole = False
        else:
            first.size += sum(len(row[name] or "") for name in inputs)
            first.rows.append(row)
        yield row


def settle_first(first: FirstRows, task: str, units: Sequence[Unit]) -> None:
    """Give the rows the splits that ingest gives them, once it has seen which of them have labels.

    Args:
        first: rows as they were read.
        task: its id.
        units: of the source.
    """
    target = target_of(base.schema(task))
    labels = pa.array([row[target] for row in first.rows], pa.string())
    splits_read = pa.array([row["split"] for row in first.rows], pa.string())
    table = pa.table({target: labels, "split": splits_read})
    settled, _ = settle_splits(table, target, units)
    splits = settled["split"].to_pylist()
    first.rows = [{**row, "split": split} for row, split in zip(first.rows, splits, strict=True)]


def clean_rows(first: FirstRows, task: str, params: CleanParams, seed: int) -> DryClean:
    """Return what clean makes of rows.

    Args:
        first: raw rows.
        task: its id.
        params: the section `clean`.
        seed: of the pipeline.
    """
    schema = base.schema(task)
    fields = schema.fields(params)
    target = target_of(schema)
    dry = DryClean(len(first.rows), first.whole, compared=first.size <= _COMPARED_BYTES)
    alone = row_wise(params)
    if not dry.compared:
        alone = alone.model_copy(update={"near_duplicates": 1.0})
    for row in first.rows:
        cleaned = clean_row(row, fields, schema, alone, seed)
        if cleaned["fate"] == USABLE:
            labels = dry.labels_of.setdefault(cleaned["key"], Counter())
            labels[cleaned["target"]] += 1
            dry.usable.append({**cleaned, "content": cleaned["key"]})
            dry.origins.append((row["origin"], row["group"]))
        elif row[target] is not None:
            dry.refused[cleaned["fate"]] += 1
            if len(dry.refusals) < _REFUSALS:
                detail = cleaned.get("detail") or ""
                dry.refusals.append(RefusedRow(row["origin"], cleaned["fate"], detail))
    return dry


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


def check_division(dry: DryClean, task: str, params: CleanParams, seed: int) -> list[str]:
    """Divide the rows as clean does, and refuse what it refuses.

    Near-duplicates stay together, so that a class of many similar rows may be too small for
    three splits.

    Args:
        dry: what clean made of the rows.
        task: its id.
        params: the section `clean`.
        seed: of the pipeline.

    Returns:
        Remarks, where there are more rows than these.

    Raises:
        InputError: clean would refuse the rows.
    """
    if not dry.usable:
        return []
    if not dry.compared:
        params = params.model_copy(update={"near_duplicates": 1.0})
    rows = _usable(dry, task)
    dedup_status = settle_rows(rows, params).dedup_status
    kept = np.flatnonzero(dedup_status == STAYS)
    labels = [rows.names[label] for label in rows.labels[kept].tolist()]
    groups = group_rows(task, params, seed, rows, kept, Cache(None, print))
    if not dry.whole:
        return _alike_classes(dry, labels, groups.names, params.min_rows_per_class)
    try:
        check_classes(labels, params, [])
        splits, leaking = split_rows(rows, kept, groups, labels, params)
        train = [
            label
            for position, (label, split) in enumerate(zip(labels, splits, strict=True))
            if split == "train" and position not in leaking
        ]
        check_train(train, labels)
    except InputError as error:
        what = f"clean would refuse it: {error.what}"
        raise InputError(what, where="--data", remedy=_as_options(error.remedy)) from None
    return []


def _alike_classes(
    dry: DryClean,
    labels: Sequence[str],
    groups: Sequence[str],
    least: int,
) -> list[str]:
    """Return a remark about each class whose rows are nearly all alike, as far as rows were seen.

    Args:
        dry: what clean made of the rows.
        labels: of the rows that stay.
        groups: of the rows that stay.
        least: rows of a class below which nothing is said.
    """
    counts = Counter(labels)
    kinds = Counter(label for label, _ in set(zip(labels, groups, strict=True)))
    remarks = []
    for label, count in sorted(counts.items()):
        if count >= least and kinds[label] < _LEAST:
            remarks.append(
                f"of the first {dry.looked:,} rows, the {count:,} of {label!r} are near-duplicates "
                f"of each other. clean refuses the class if all of its rows are: "
                "--set clean.near_duplicates=1.0"
            )
    return remarks


def _as_options(remedy: str) -> str:
    """Return what to do as options of the command, where a remedy names params."""
    options = {
        "set clean.near_duplicates: 1.0": "--set clean.near_duplicates=1.0",
        "with ingest.labels": "with --labels CLASS=",
    }
    for params, option in options.items():
        remedy = remedy.replace(params, option)
    return remedy


def _usable(dry: DryClean, task: str) -> Usable:
    """Return the rows in the form in which clean has them."""
    schema = base.schema(task)
    contents = pa.Table.from_pylist(dry.usable, schema=unique_rows_schema(schema))
    count = contents.num_rows
    raw = {
        # ingest gives rows with one id ids of their own.
        "id": pa.array([str(number) for number in range(count)], pa.string()),
        "origin": pa.array([origin for origin, _ in dry.origins], pa.string()),
        "group": pa.array([group for _, group in dry.origins], pa.string()),
    }
    unique_rows = UniqueRows(contents, np.arange(count))
    return usable_rows(pa.table(raw), unique_rows, schema)


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
