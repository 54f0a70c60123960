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
    clean_contents,
    row_wise,
    target_of,
    target_role,
    unique_rows_schema,
)
from components.stages.clean.duplicates import STAYS, has_few_inputs
from components.stages.clean.params import CleanParams, NearDuplicates
from components.stages.clean.row_groups import decide_rows, group_rows, split_rows
from components.stages.clean.unique_rows import UniqueRows
from components.stages.clean.usable_rows import TIME, Usable, usable_rows
from components.stages.ingest.source_rows import RefusedRow, Unit, usable_splits
from components.tasks import base
from components.tasks.base import CleanedTargets, Conflicts, Setting

# Rows and bytes that are cleaned. Cleaning takes longer than reading.
_ROWS = 20_000
_BYTES = 30_000_000
# Bytes up to which near-duplicates are searched. The search takes as long as cleaning.
_COMPARED_BYTES = 10_000_000
# Refused rows whose details are recorded.
_REFUSALS = 5
# Rows of a stratum: one each for train, validation and test.
_LEAST = 3
# Rows from which a stratum of near-duplicates alone is worth a remark.
_MANY = 10
# Rows from which an input counts as frequent.
_FREQUENT = 10


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
    # SHA-256 of the inputs -> rows by target
    targets_of: dict[bytes, Counter[Any]] = field(default_factory=dict)
    # usable rows, as clean has them before it divides them
    usable: list[dict[str, Any]] = field(default_factory=list)
    # position of each usable row in the source, and its group there
    origins: list[tuple[str, str | None]] = field(default_factory=list)
    # times of the usable rows in seconds, where ingest.columns names one
    times: list[float | None] = field(default_factory=list)
    # whether near-duplicates are searched
    compared: bool = True
    # whether rows with equal inputs stay
    keeps_all: bool = False

    @property
    def frequent(self) -> dict[bytes, Counter[Any]]:
        """Return the inputs that occur ten times or more, with their rows by target."""
        return {
            key: targets for key, targets in self.targets_of.items() if targets.total() >= _FREQUENT
        }

    @property
    def conflicts(self) -> int:
        """Return the number of rows whose inputs are equal and whose targets differ."""
        return sum(counts.total() for counts in self.targets_of.values() if len(counts) > 1)

    @property
    def duplicates(self) -> int:
        """Return the number of rows that repeat another one with the same target."""
        agreeing = [counts for counts in self.targets_of.values() if len(counts) == 1]
        return sum(counts.total() - 1 for counts in agreeing)

    @property
    def has_few_inputs(self) -> bool:
        """Return whether most rows have inputs that others have, too."""
        counts = [targets.total() for targets in self.targets_of.values()]
        return has_few_inputs(np.repeat(np.arange(len(counts)), counts))

    def targets(self, boilerplate: int, conflicts: Conflicts) -> Counter[Any]:
        """Return the number of rows of each target that clean leaves.

        Args:
            boilerplate: inputs that occur this often are dropped; 0: none.
            conflicts: what happens to equal inputs.
        """
        remaining: Counter[Any] = Counter()
        for targets in self.targets_of.values():
            if boilerplate and targets.total() >= boilerplate:
                continue
            if conflicts == "keep_all":
                remaining.update(targets)
            elif conflicts == "keep" or len(targets) == 1:
                remaining.update(targets.keys())
        return remaining


def collect_first(
    rows: Iterable[Mapping[str, Any]],
    schema: base.Schema,
    first: FirstRows,
) -> Iterator[Mapping[str, Any]]:
    """Yield all rows unchanged, and collect the first of them.

    Args:
        rows: raw rows.
        schema: of the pipeline.
        first: is filled meanwhile.
    """
    inputs = base.input_names(schema)
    for row in rows:
        if len(first.rows) >= _ROWS or first.size >= _BYTES:
            first.whole = False
        else:
            first.size += sum(_size(row[name]) for name in inputs)
            first.rows.append(row)
        yield row


def _size(value: Any) -> int:
    """Return the characters or bytes of a value; a number counts as one."""
    if isinstance(value, str | bytes):
        return len(value)
    return 0 if value is None else 1


def assign_splits(first: FirstRows, schema: base.Schema, units: Sequence[Unit]) -> None:
    """Assign the splits to the first rows as ingest does, which needs to know their targets.

    Args:
        first: the rows as they were read; they are replaced.
        schema: of the pipeline.
        units: of the source.
    """
    role = target_role(schema)
    targets = pa.array([row[role.name] for row in first.rows], role.field.arrow)
    splits_read = pa.array([row["split"] for row in first.rows], pa.string())
    table = pa.table({role.name: targets, "split": splits_read})
    result, _ = usable_splits(table, role.name, units, schema.targets.words)
    splits = result["split"].to_pylist()
    first.rows = [{**row, "split": split} for row, split in zip(first.rows, splits, strict=True)]


def clean_rows(first: FirstRows, schema: base.Schema, params: CleanParams, seed: int) -> DryClean:
    """Clean rows as the stage does, each one for itself.

    Args:
        first: raw rows.
        schema: of the pipeline.
        params: the section `clean`.
        seed: of the pipeline.
    """
    target = target_of(schema)
    dry = DryClean(len(first.rows), first.whole, compared=first.size <= _COMPARED_BYTES)
    dry.keeps_all = schema.targets.conflicts(params) == "keep_all"
    row_params = row_wise(schema, params)
    if not dry.compared:
        row_params = _uncompared(row_params)
    table = clean_contents(first.rows, schema, row_params, seed)
    for row, cleaned in zip(first.rows, table.to_pylist(), strict=True):
        if cleaned["fate"] == USABLE:
            _add_usable(dry, row, cleaned)
        elif row[target] is not None:
            _add_refused(dry, row, cleaned)
    return dry


def _uncompared(params: CleanParams) -> CleanParams:
    """Return the params without a search for near-duplicates."""
    if not isinstance(params, NearDuplicates):
        return params
    return params.model_copy(update={"near_duplicates": 1.0})


def _add_usable(dry: DryClean, row: Mapping[str, Any], cleaned: Mapping[str, Any]) -> None:
    targets = dry.targets_of.setdefault(cleaned["key"], Counter())
    targets[cleaned["target"]] += 1
    dry.usable.append({**cleaned, "content": cleaned["key"]})
    dry.origins.append((row["origin"], row["group"]))
    if TIME in row:
        dry.times.append(row[TIME])


def _add_refused(dry: DryClean, row: Mapping[str, Any], cleaned: Mapping[str, Any]) -> None:
    dry.refused[cleaned["fate"]] += 1
    if len(dry.refusals) < _REFUSALS:
        detail = cleaned.get("detail") or ""
        dry.refusals.append(RefusedRow(row["origin"], cleaned["fate"], detail))


def repeated_inputs(dry: DryClean, value: str) -> list[Setting]:
    """Return the setting that keeps one row of each frequent input, where each has one target.

    A frequent input with different targets carries no information. clean drops it.

    Args:
        dry: the result of the preview.
        value: what a target is called.
    """
    frequent = dry.frequent
    agreeing = [targets for targets in frequent.values() if len(targets) == 1]
    if not frequent or len(agreeing) < len(frequent):
        return []
    reason = f"inputs that occur 10 times or more have one {value} each: they are no boilerplate"
    return [Setting("clean.boilerplate", 0, reason)]


def cleaned_targets(dry: DryClean, schema: base.Schema, params: CleanParams) -> CleanedTargets:
    """Return what clean leaves of the targets.

    Args:
        dry: the result of the preview.
        schema: of the pipeline.
        params: the section `clean`.
    """
    causes = [f"{count:,} {reason}" for reason, count in dry.refused.items()]
    if dry.conflicts:
        values = schema.targets.words.values
        causes.append(f"{dry.conflicts:,} equal inputs with different {values}")
    text = ", ".join(causes)
    if text and dry.refusals:
        text += f"; the first: {dry.refusals[0]}"
    conflicts = schema.targets.conflicts(params)
    return CleanedTargets(dry.targets(params.boilerplate, conflicts), dry.row_count, text)


def check_division(
    dry: DryClean, task: str, schema: base.Schema, params: CleanParams, seed: int
) -> list[str]:
    """Divide the rows into splits as clean does, and refuse the rows that it refuses.

    Near-duplicates stay together. So a stratum of many similar rows may be too small for three
    splits.

    Args:
        dry: the result of the preview.
        task: its id.
        schema: of the pipeline.
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
        params = _uncompared(params)
    rows = _usable(dry, schema)
    dedup_status = decide_rows(rows, params).dedup_status
    staying = np.flatnonzero(dedup_status == STAYS)
    targets = rows.targets(staying)
    rules = schema.targets
    groups = group_rows(task, params, seed, rows, staying, Cache(None, print))
    if not dry.whole:
        if not isinstance(params, NearDuplicates):
            return []
        return _alike_strata(dry, rules, targets, groups.names)
    try:
        rules.check(targets, params, [])
        strata = rules.strata(targets)
        division = split_rows(rows, staying, groups, strata, params)
        dropped = division.dropped
        train_targets = []
        for position, (target, split) in enumerate(zip(targets, division.splits, strict=True)):
            if split == "train" and position not in dropped:
                train_targets.append(target)
        rules.check_train(train_targets, targets)
    except InputError as error:
        what = f"clean would refuse it: {error.what}"
        remedy = _as_options(error.remedy, base.defaults(task).remedy_options)
        raise InputError(what, where="--data", remedy=remedy) from None
    return []


def _alike_strata(
    dry: DryClean,
    rules: base.TargetRules,
    targets: Sequence[Any],
    groups: Sequence[str],
) -> list[str]:
    """Return a remark about each stratum whose rows are nearly all near-duplicates.

    Args:
        dry: the result of the preview.
        rules: of the targets.
        targets: of the rows that stay.
        groups: of the rows that stay.
    """
    strata = rules.strata(targets)
    row_counts = Counter(strata)
    group_counts = Counter(stratum for stratum, _ in set(zip(strata, groups, strict=True)))
    remarks = []
    for stratum, count in sorted(row_counts.items()):
        if count >= _MANY and group_counts[stratum] < _LEAST:
            remarks.append(
                f"of the first {dry.row_count:,} rows, the {count:,} of {stratum!r} are "
                f"near-duplicates of each other. clean refuses the {rules.words.category} if all "
                "of its rows are: --set clean.near_duplicates=1.0"
            )
    return remarks


def _as_options(remedy: str, options: Mapping[str, str]) -> str:
    """Return a remedy with options of the command instead of params."""
    near_duplicates = {"set clean.near_duplicates: 1.0": "--set clean.near_duplicates=1.0"}
    for params, option in [*near_duplicates.items(), *options.items()]:
        remedy = remedy.replace(params, option)
    return remedy


def _usable(dry: DryClean, schema: base.Schema) -> Usable:
    """Return the usable rows in the types of the stage clean."""
    contents = pa.Table.from_pylist(dry.usable, schema=unique_rows_schema(schema))
    count = contents.num_rows
    raw = {
        # ingest makes ids unique, so numbers serve as well.
        "id": pa.array([str(number) for number in range(count)], pa.string()),
        "origin": pa.array([origin for origin, _ in dry.origins], pa.string()),
        "group": pa.array([group for _, group in dry.origins], pa.string()),
    }
    if dry.times:
        raw[TIME] = pa.array(dry.times, pa.float64())
    unique_rows = UniqueRows(contents, np.arange(count))
    return usable_rows(pa.table(raw), unique_rows, schema)
