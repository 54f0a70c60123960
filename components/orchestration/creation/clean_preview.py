"""Preview of the stage clean on the first rows of a source, with its code and params."""

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
    row_wise,
    target_of,
    unique_rows_schema,
)
from components.stages.clean.duplicates import STAYS
from components.stages.clean.params import CleanParams
from components.stages.clean.row_decisions import decide_rows, group_rows, split_rows
from components.stages.clean.unique_rows import UniqueRows
from components.stages.clean.usable_rows import Usable, usable_rows
from components.stages.ingest.source_rows import RefusedRow, Unit, usable_splits
from components.tasks import base
from components.tasks.base import Setting

# Rows and bytes that are cleaned. Cleaning takes longer than reading.
_ROWS = 20_000
_BYTES = 30_000_000
# Bytes up to which near-duplicates are searched. The search takes as long as cleaning.
_COMPARED_BYTES = 10_000_000
# Refused rows whose details are recorded.
_REFUSALS = 5
# Rows of a class: one each for train, validation and test. clean refuses a smaller limit.
_LEAST = 3
# Rows from which an input counts as frequent.
_FREQUENT = 10
# Classes that a message names.
_SHOWN = 5


@dataclass
class FirstRows:
    """The first raw rows of a source."""

    rows: list[Mapping[str, Any]] = field(default_factory=list)
    # characters or bytes of the inputs
    size: int = 0
    # whether these are all rows of the source
    whole: bool = True


@dataclass
class DryClean:
    """Result of a preview: the rows that clean can use, and the reasons for the others."""

    # rows that were cleaned
    row_count: int = 0
    # whether these are all rows of the source
    whole: bool = True
    refused: Counter[str] = field(default_factory=Counter)
    refusals: list[RefusedRow] = field(default_factory=list)
    # SHA-256 of the inputs -> rows by label
    labels_of: dict[bytes, Counter[str]] = field(default_factory=dict)
    # usable rows, as clean has them before it divides them
    usable: list[dict[str, Any]] = field(default_factory=list)
    # position of each usable row in the source, and its group there
    origins: list[tuple[str, str | None]] = field(default_factory=list)
    # whether near-duplicates are searched
    compared: bool = True

    @property
    def frequent(self) -> dict[bytes, Counter[str]]:
        """Return the inputs that occur ten times or more, with their rows by label."""
        return {
            key: labels for key, labels in self.labels_of.items() if labels.total() >= _FREQUENT
        }

    @property
    def conflicts(self) -> int:
        """Return the number of rows whose inputs are equal and whose labels differ."""
        return sum(counts.total() for counts in self.labels_of.values() if len(counts) > 1)

    @property
    def duplicates(self) -> int:
        """Return the number of rows that repeat another one with the same label."""
        agreeing = [counts for counts in self.labels_of.values() if len(counts) == 1]
        return sum(counts.total() - 1 for counts in agreeing)

    def targets(self, boilerplate: int) -> Counter[str]:
        """Return the number of rows of each target without repetitions and conflicts.

        Args:
            boilerplate: inputs that occur this often are dropped; 0: none.
        """
        remaining: Counter[str] = Counter()
        for labels in self.labels_of.values():
            is_boilerplate = boilerplate and labels.total() >= boilerplate
            if len(labels) > 1 or is_boilerplate:
                continue
            remaining.update(labels.keys())
        return remaining


def collect_first(
    rows: Iterable[Mapping[str, Any]],
    task: str,
    first: FirstRows,
) -> Iterator[Mapping[str, Any]]:
    """Yield all rows unchanged, and collect the first of them.

    Args:
        rows: raw rows.
        task: its id.
        first: is filled meanwhile.
    """
    inputs = base.input_names(base.schema(task))
    for row in rows:
        if len(first.rows) >= _ROWS or first.size >= _BYTES:
            first.whole = False
        else:
            first.size += sum(len(row[name] or "") for name in inputs)
            first.rows.append(row)
        yield row


def assign_splits(first: FirstRows, task: str, units: Sequence[Unit]) -> None:
    """Assign the splits to the first rows as ingest does, which needs to know their labels.

    Args:
        first: the rows as they were read; they are replaced.
        task: its id.
        units: of the source.
    """
    schema = base.schema(task)
    target = target_of(schema)
    labels = pa.array([row[target] for row in first.rows], pa.string())
    splits_read = pa.array([row["split"] for row in first.rows], pa.string())
    table = pa.table({target: labels, "split": splits_read})
    result, _ = usable_splits(table, target, units, schema.targets.words)
    splits = result["split"].to_pylist()
    first.rows = [{**row, "split": split} for row, split in zip(first.rows, splits, strict=True)]


def clean_rows(first: FirstRows, task: str, params: CleanParams, seed: int) -> DryClean:
    """Clean rows as the stage does, each one for itself.

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
    row_params = row_wise(schema, params)
    if not dry.compared:
        row_params = row_params.model_copy(update={"near_duplicates": 1.0})
    for row in first.rows:
        cleaned = clean_row(row, fields, schema, row_params, seed)
        if cleaned["fate"] == USABLE:
            _add_usable(dry, row, cleaned)
        elif row[target] is not None:
            _add_refused(dry, row, cleaned)
    return dry


def _add_usable(dry: DryClean, row: Mapping[str, Any], cleaned: Mapping[str, Any]) -> None:
    labels = dry.labels_of.setdefault(cleaned["key"], Counter())
    labels[cleaned["target"]] += 1
    dry.usable.append({**cleaned, "content": cleaned["key"]})
    dry.origins.append((row["origin"], row["group"]))


def _add_refused(dry: DryClean, row: Mapping[str, Any], cleaned: Mapping[str, Any]) -> None:
    dry.refused[cleaned["fate"]] += 1
    if len(dry.refusals) < _REFUSALS:
        detail = cleaned.get("detail") or ""
        dry.refusals.append(RefusedRow(row["origin"], cleaned["fate"], detail))


def repeated_inputs(dry: DryClean) -> list[Setting]:
    """Return the setting that keeps one row of each frequent input, where each has one label.

    A frequent input with different labels carries no information. clean drops it.

    Args:
        dry: the result of the preview.
    """
    frequent = dry.frequent
    agreeing = [labels for labels in frequent.values() if len(labels) == 1]
    if not frequent or len(agreeing) < len(frequent):
        return []
    reason = "inputs that occur 10 times or more have one label each: they are no boilerplate"
    return [Setting("clean.boilerplate", 0, reason)]


def small_targets(dry: DryClean, boilerplate: int, least: int) -> list[Setting]:
    """Return settings for classes with too few rows, which clean would refuse.

    Args:
        dry: the result of the preview.
        boilerplate: clean.boilerplate.
        least: clean.min_rows_per_class.

    Raises:
        InputError: fewer than two classes are left, or too few rows of the smallest ones.
    """
    remaining = dry.targets(boilerplate)
    if not dry.whole:
        return []
    if len(remaining) < 2:
        raise _too_few_classes(dry, remaining)
    small = {name: count for name, count in remaining.items() if count < least}
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
        raise _too_few_rows(rare, merged, class_count=len(remaining))
    reason = f"{len(rare):,} classes have fewer than {_LEAST} rows and become 'other'"
    return [lowered, Setting("clean.small_classes", "merge", reason)]


def _too_few_rows(rare: Sequence[str], count: int, *, class_count: int) -> InputError:
    """Return the error about classes that stay too small when they are merged.

    Args:
        rare: the classes.
        count: their rows together.
        class_count: number of all classes.
    """
    names = ", ".join(map(repr, rare[:_SHOWN]))
    verb = "have together" if len(rare) > 1 else "has"
    remedy = "bring more rows of these classes"
    # Two classes must be left.
    if class_count - len(rare) >= 2:
        option = ",".join(f"{name}=" for name in rare)
        remedy += f', or drop them: --labels "{option}"'
    return InputError(
        f"{names} {verb} {_rows(count)}: {_LEAST} are needed", where="--data", remedy=remedy
    )


def check_division(dry: DryClean, task: str, params: CleanParams, seed: int) -> list[str]:
    """Divide the rows into splits as clean does, and refuse the rows that it refuses.

    Near-duplicates stay together. So a class of many similar rows may be too small for three
    splits.

    Args:
        dry: the result of the preview.
        task: its id.
        params: the section `clean`.
        seed: of the pipeline.

    Returns:
        Remarks, where the source has more rows than these.

    Raises:
        InputError: clean would refuse the rows.
    """
    if not dry.usable:
        return []
    if not dry.compared:
        params = params.model_copy(update={"near_duplicates": 1.0})
    rows = _usable(dry, task)
    dedup_status = decide_rows(rows, params).dedup_status
    staying = np.flatnonzero(dedup_status == STAYS)
    labels = rows.targets(staying)
    rules = rows.schema.targets
    groups = group_rows(task, params, seed, rows, staying, Cache(None, print))
    if not dry.whole:
        least = params.model_dump()["min_rows_per_class"]
        return _alike_classes(dry, labels, groups.names, least)
    try:
        rules.check(labels, params, [])
        strata = rules.strata(labels)
        splits, leaking = split_rows(rows, staying, groups, strata, params)
        train_labels = []
        for position, (label, split) in enumerate(zip(labels, splits, strict=True)):
            if split == "train" and position not in leaking:
                train_labels.append(label)
        rules.check_train(train_labels, labels)
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
    """Return a remark about each class whose rows are nearly all near-duplicates.

    Args:
        dry: the result of the preview.
        labels: of the rows that stay.
        groups: of the rows that stay.
        least: rows of a class; there is no remark about a smaller one.
    """
    row_counts = Counter(labels)
    group_counts = Counter(label for label, _ in set(zip(labels, groups, strict=True)))
    remarks = []
    for label, count in sorted(row_counts.items()):
        if count >= least and group_counts[label] < _LEAST:
            remarks.append(
                f"of the first {dry.row_count:,} rows, the {count:,} of {label!r} are "
                "near-duplicates of each other. clean refuses the class if all of its rows are: "
                "--set clean.near_duplicates=1.0"
            )
    return remarks


def _as_options(remedy: str) -> str:
    """Return a remedy with options of the command instead of params."""
    options = {
        "set clean.near_duplicates: 1.0": "--set clean.near_duplicates=1.0",
        "with ingest.labels": "with --labels CLASS=",
    }
    for params, option in options.items():
        remedy = remedy.replace(params, option)
    return remedy


def _usable(dry: DryClean, task: str) -> Usable:
    """Return the usable rows in the types of the stage clean."""
    schema = base.schema(task)
    contents = pa.Table.from_pylist(dry.usable, schema=unique_rows_schema(schema))
    count = contents.num_rows
    raw = {
        # ingest makes ids unique, so numbers serve as well.
        "id": pa.array([str(number) for number in range(count)], pa.string()),
        "origin": pa.array([origin for origin, _ in dry.origins], pa.string()),
        "group": pa.array([group for _, group in dry.origins], pa.string()),
    }
    unique_rows = UniqueRows(contents, np.arange(count))
    return usable_rows(pa.table(raw), unique_rows, schema)


def _too_few_classes(dry: DryClean, remaining: Mapping[str, int]) -> InputError:
    """Return the error about fewer than two classes, with the reasons.

    Args:
        dry: the result of the preview.
        remaining: rows by class.
    """
    names = ", ".join(map(repr, remaining)) or "not even one"
    reasons = [f"{count:,} {reason}" for reason, count in dry.refused.items()]
    if dry.conflicts:
        reasons.append(f"{dry.conflicts:,} equal inputs with different labels")
    explanation = ", ".join(reasons) or "the rest repeats others"
    if dry.refusals:
        explanation += f"; the first: {dry.refusals[0]}"
    return InputError(
        f"only one class is left of {dry.row_count:,} rows after cleaning: {names} ({explanation})",
        where="--data",
        remedy="bring more rows, or check --text and --label",
    )


def _rows(count: int) -> str:
    if count == 1:
        return "1 usable row"
    return f"{count:,} usable rows"
