"""Decisions about all rows together: which are dropped, their groups, and the split."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from components.core.cache import Cache
from components.core.errors import InputError
from components.stages.clean.cleaning import row_wise_key
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
from components.stages.clean.split import by_time, check_strata, stratified
from components.stages.clean.usable_rows import Usable
from components.tasks import base

_SECONDS_OF_A_DAY = 86_400


@dataclass(frozen=True)
class RowDecisions:
    """Which rows stay, and the rare targets that were merged.

    Args:
        dedup_status: (rows,) numbers of `reasons`.
        merged: target -> its new value.
        merged_rows: number of rows with merged targets.
        stayed: number of rows that stayed before targets were merged.
    """

    dedup_status: NDArray[np.int8]
    merged: Mapping[Any, Any]
    merged_rows: int
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
    """Return which rows stay; rare targets are merged in place where the task says so."""
    dedup_status = _dedup_status(rows, params)
    stays = np.flatnonzero(dedup_status == STAYS)
    counts = Counter(rows.targets(stays))
    merged = rows.schema.targets.merged(counts, params)
    if not merged:
        return RowDecisions(dedup_status, {}, 0, len(stays))
    merged_rows = sum(counts[target] for target in merged)
    rows.replace_targets(merged)
    return RowDecisions(_dedup_status(rows, params), merged, merged_rows, len(stays))


def _dedup_status(rows: Usable, params: CleanParams) -> NDArray[np.int8]:
    """Return which rows are dropped, and why. Canonical evaluation rows are no boilerplate."""
    conflicts = rows.schema.targets.conflicts(params)
    dedup_status = resolve_duplicates(rows.key_ids, rows.target_ids, rows.splits, conflicts)
    if params.boilerplate:
        occurrences = np.bincount(rows.key_ids)[rows.key_ids]
        held_out = rows.splits >= OWN_SPLITS.index("validation")
        frequent = occurrences >= params.boilerplate
        dedup_status[frequent & ~held_out] = BOILERPLATE
    return dedup_status


def group_rows(
    task: str,
    params: CleanParams,
    seed: int,
    rows: Usable,
    kept: Rows,
    memo: Cache,
) -> Groups:
    """Return the group of each row that stays.

    Near-duplicates share one, and so do rows with the same group key of the source. Rows with
    equal inputs share one where the task keeps them.

    Args:
        task: the task's id.
        params: of clean.
        seed: of the split.
        rows: usable rows.
        kept: the rows that stay.
        memo: cache of earlier runs.
    """
    schema = rows.schema
    clusters = UnionFind(len(kept))
    if schema.targets.conflicts(params) in ("keep", "keep_all"):
        _join_equal(clusters, enumerate(rows.key_ids[kept].tolist()))
    pairs = 0
    if schema.split.near_duplicates and params.near_duplicates < 1:
        key = row_wise_key(task, schema, params, seed)
        cache = SimilarityCache(rows, kept, schema.fields(params), memo, key)

        def similar(name: str, one: int, other: int) -> bool:
            return cache.similarity(name, one, other) >= params.near_duplicates

        bands = {name: rows.bands(name, kept) for name in base.input_names(schema)}
        pairs = lsh_pairs(bands, similar, clusters)
        cache.save()
    _join_equal(clusters, rows.groups(kept))
    roots = kept[clusters.roots()]
    names = rows.column("group", roots)
    draws = dict(zip(names, rows.column("draw", roots), strict=True))
    return Groups(names, draws, pairs)


def _join_equal(clusters: UnionFind, keys: Iterable[tuple[int, Hashable]]) -> None:
    """Join the positions that have equal keys.

    Args:
        clusters: of the positions.
        keys: positions with their keys.
    """
    first: dict[Hashable, int] = {}
    for position, key in keys:
        clusters.join(first.setdefault(key, position), position)


def split_rows(
    rows: Usable,
    kept: Rows,
    groups: Groups,
    strata: Sequence[str],
    params: CleanParams,
) -> tuple[list[str], set[int]]:
    """Return the split of each row that stays: the source's own where it has splits, else ours.

    Args:
        rows: usable rows.
        kept: the rows that stay.
        groups: of the rows that stay.
        strata: of the rows that stay.
        params: of clean.

    Returns:
        The splits, and the positions of rows that are dropped: train rows that leak into a
        canonical split, or rows just before validation or test in a split by time.

    Raises:
        InputError: a stratum has too few groups, the source names no test rows, or there is no
            time to split by.
    """
    canonical = [OWN_SPLITS[split] for split in rows.splits[kept].tolist()]
    if not any(canonical) and params.split_by == "time":
        return by_time(
            groups.names,
            rows.moments(kept),
            params.validation_share,
            params.test_share,
            params.embargo_days * _SECONDS_OF_A_DAY,
        )
    if not any(canonical):
        splits = stratified(
            groups.names,
            strata,
            params.validation_share,
            params.test_share,
            groups.draws,
        )
        check_strata(groups.names, strata, splits, rows.schema.targets.too_few_groups)
        return splits, set()
    splits = [split or "train" for split in canonical]
    if "test" not in splits:
        raise InputError(
            "the source's split column names no test rows",
            where="ingest.columns.split",
            remedy="map no split column, so that one is made",
        )
    leaking = _leaking(groups.names, splits)
    if len(leaking) == splits.count("train"):
        causes = f": {len(leaking):,} are in a group with rows of another split" if leaking else ""
        raise InputError(
            f"no train row is left{causes}",
            where="ingest.columns.split",
            remedy="map no split column, or no group column",
        )
    if "validation" not in splits:
        _add_validation(splits, leaking, groups, strata, params)
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
    strata: Sequence[str],
    params: CleanParams,
) -> None:
    """Move a share of the train rows to validation, in place.

    A stratum with one group stays in train: the source has test rows of it.

    Args:
        splits: of the rows that stay.
        leaking: positions that are dropped.
        groups: of the rows.
        strata: of the rows.
        params: of clean.
    """
    train = []
    for position, split in enumerate(splits):
        if split == "train" and position not in leaking:
            train.append(position)
    drawn = stratified(
        [groups.names[position] for position in train],
        [strata[position] for position in train],
        params.validation_share,
        0.001,
        groups.draws,
    )
    for position, split in zip(train, drawn, strict=True):
        if split != "train":
            splits[position] = "validation"
