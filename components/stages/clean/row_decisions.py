"""Decisions about all rows together: which are dropped, their groups, and the split."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from components.core.cache import Cache
from components.core.errors import InputError
from components.stages.clean.cleaning import inputs_of, row_wise_key
from components.stages.clean.duplicates import (
    BOILERPLATE,
    OWN_SPLITS,
    STAYS,
    Rows,
    UnionFind,
    lsh_pairs,
    resolve_duplicates,
)
from components.stages.clean.params import CleanParams
from components.stages.clean.similarity_cache import SimilarityCache
from components.stages.clean.split import stratified
from components.stages.clean.usable_rows import Usable
from components.tasks import base


@dataclass(frozen=True)
class RowDecisions:
    """Which rows stay, and the classes that were merged because they have too few.

    Args:
        dedup_status: (rows,) numbers of REASONS.
        merged: class -> its new name.
        small: rows of merged classes.
        stayed: rows that stayed before classes were merged.
    """

    dedup_status: NDArray[np.int8]
    merged: Mapping[str, str]
    small: int
    stayed: int


@dataclass(frozen=True)
class Groups:
    """Groups of rows; the rows of a group are in one split.

    Args:
        names: (rows that stay,) name of the group of each row.
        draws: seeded hash of each group.
        pairs: number of pairs of similar rows.
    """

    names: list[str]
    draws: Mapping[str, bytes]
    pairs: int


def decide_rows(rows: Usable, params: CleanParams) -> RowDecisions:
    """Return which rows stay; small classes are merged in place where params say so."""
    dedup_status = _dedup_status(rows, params)
    stays = dedup_status == STAYS
    stayed = int(stays.sum())
    merged = _small_classes(rows, dedup_status, params)
    if not merged:
        return RowDecisions(dedup_status, {}, 0, stayed)
    merged_labels = [rows.names.index(name) for name in merged]
    small = np.isin(rows.labels, merged_labels) & stays
    rows.rename(merged)
    return RowDecisions(_dedup_status(rows, params), merged, int(small.sum()), stayed)


def _dedup_status(rows: Usable, params: CleanParams) -> NDArray[np.int8]:
    """Return which rows are dropped, and why. Canonical evaluation rows are no boilerplate."""
    dedup_status = resolve_duplicates(rows.key_ids, rows.labels, rows.splits, params.conflicts)
    if params.boilerplate:
        occurrences = np.bincount(rows.key_ids)[rows.key_ids]
        held_out = rows.splits >= OWN_SPLITS.index("validation")
        frequent = occurrences >= params.boilerplate
        dedup_status[frequent & ~held_out] = BOILERPLATE
    return dedup_status


def _small_classes(
    rows: Usable,
    dedup_status: NDArray[np.int8],
    params: CleanParams,
) -> dict[str, str]:
    """Return the classes that are merged into `other`, as params say."""
    labels = rows.labels[dedup_status == STAYS]
    counts = np.bincount(labels, minlength=len(rows.names)).tolist()
    small = []
    for name, count in zip(rows.names, counts, strict=True):
        if 0 < count < params.min_rows_per_class:
            small.append(name)
    small.sort()
    if params.small_classes == "refuse" or not small:
        return {}
    return dict.fromkeys(small, "other")


def group_rows(
    task: str,
    params: CleanParams,
    seed: int,
    rows: Usable,
    kept: Rows,
    memo: Cache,
) -> Groups:
    """Return the group of each row that stays.

    Near-duplicates share one, and so do rows with the same group key of the source.

    Args:
        task: the task's id.
        params: of clean.
        seed: of the split.
        rows: usable rows.
        kept: the rows that stay.
        memo: cache of earlier runs.
    """
    schema = base.schema(task)
    clusters = UnionFind(len(kept))
    pairs = 0
    if schema.split.near_duplicates and params.near_duplicates < 1:
        key = row_wise_key(task, params, seed)
        cache = SimilarityCache(rows, kept, schema.fields(params), memo, key)

        def similar(name: str, one: int, other: int) -> bool:
            return cache.similarity(name, one, other) >= params.near_duplicates

        bands = {name: rows.bands(name, kept) for name in inputs_of(schema)}
        pairs = lsh_pairs(bands, similar, clusters)
        cache.save()
    first: dict[str, int] = {}
    for position, group in rows.groups(kept):
        first_position = first.setdefault(group, position)
        clusters.join(first_position, position)
    roots = kept[clusters.roots()]
    names = rows.column("group", roots)
    draws = dict(zip(names, rows.column("draw", roots), strict=True))
    return Groups(names, draws, pairs)


def split_rows(
    rows: Usable,
    kept: Rows,
    groups: Groups,
    labels: Sequence[str],
    params: CleanParams,
) -> tuple[list[str], set[int]]:
    """Return the split of each row that stays: the source's own where it has splits, else ours.

    Args:
        rows: usable rows.
        kept: the rows that stay.
        groups: of the rows that stay.
        labels: of the rows that stay.
        params: of clean.

    Returns:
        The splits, and the positions of train rows that leak into a canonical split.

    Raises:
        InputError: a class has too few groups, or the source names no test rows.
    """
    canonical = [OWN_SPLITS[split] for split in rows.splits[kept].tolist()]
    if not any(canonical):
        splits = stratified(
            groups.names,
            labels,
            params.validation_share,
            params.test_share,
            groups.draws,
        )
        return splits, set()
    splits = [split or "train" for split in canonical]
    if "test" not in splits:
        raise InputError(
            "the source's split column names no test rows",
            where="ingest.columns.split",
            remedy="map no split column, so that one is made",
        )
    leaking = _leaking(groups.names, splits)
    if "validation" not in splits:
        _add_validation(splits, leaking, groups, labels, params)
    return splits, leaking


def _leaking(groups: Sequence[str], splits: Sequence[str]) -> set[int]:
    """Return the positions of train rows with a row of another split in their group."""
    pairs = list(zip(groups, splits, strict=True))
    held_out = {group for group, split in pairs if split != "train"}
    leaking = set()
    for position, (group, split) in enumerate(pairs):
        if split == "train" and group in held_out:
            leaking.add(position)
    return leaking


def _add_validation(
    splits: list[str],
    leaking: set[int],
    groups: Groups,
    labels: Sequence[str],
    params: CleanParams,
) -> None:
    """Move a share of the train rows to validation, in place.

    Args:
        splits: of the rows that stay.
        leaking: positions that are dropped.
        groups: of the rows.
        labels: of the rows.
        params: of clean.
    """
    train = []
    for position, split in enumerate(splits):
        if split == "train" and position not in leaking:
            train.append(position)
    drawn = stratified(
        [groups.names[position] for position in train],
        [labels[position] for position in train],
        params.validation_share,
        0.001,
        groups.draws,
        # A class with one group stays in train: the source has test rows of it.
        least=1,
    )
    for position, split in zip(train, drawn, strict=True):
        if split != "train":
            splits[position] = "validation"


def check_classes(
    labels: Sequence[str],
    params: CleanParams,
    causes: Sequence[str],
) -> None:
    """Check that there are classes that can be learned.

    Args:
        labels: of the rows that stay.
        params: of clean.
        causes: a message for each thing that removed rows.

    Raises:
        InputError: fewer than two classes are left, or one has too few rows.
    """
    counts = Counter(labels)
    if len(counts) < 2:
        raise _too_few_classes(list(counts), causes)
    least = params.min_rows_per_class
    small = {name: count for name, count in sorted(counts.items()) if count < least}
    if small:
        merge = ""
        if params.small_classes == "refuse":
            merge = ", or set clean.small_classes: merge"
        raise InputError(
            f"classes with fewer than {least} usable rows: {small}",
            where="clean.min_rows_per_class",
            remedy=f"bring more rows, or lower clean.min_rows_per_class{merge}",
        )


def _too_few_classes(classes: Sequence[str], causes: Sequence[str]) -> InputError:
    """Return the error of rows with fewer than two classes."""
    left = "no row is left after cleaning"
    if classes:
        left = f"only one class is left after cleaning: {classes[0]}; a classifier needs two"
    why = "".join(f"\n     {cause}" for cause in causes)
    return InputError(
        f"{left}{why}",
        where="clean",
        remedy="change the params that these lines name, bring rows of another class, "
        "or check ingest.columns.label",
    )


def check_train(labels: Sequence[str], classes: Sequence[str]) -> None:
    """Check that train has rows of all classes.

    Args:
        labels: of the train rows.
        classes: of all rows.

    Raises:
        InputError: train has no row of a class.
    """
    missing = sorted(set(classes) - set(labels))
    if missing:
        raise InputError(
            f"no train row is left of: {', '.join(missing)}",
            where="ingest.columns.split",
            remedy="bring train rows of it that validation and test do not hold, "
            "or map no split column",
        )
