"""Decisions about all rows together: which are dropped, their groups, and the split."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
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
    has_few_inputs,
    lsh_pairs,
    resolve_duplicates,
)
from components.stages.clean.params import CleanParams, Fold, near_duplicate_threshold
from components.stages.clean.similarity_cache import SimilarityCache
from components.stages.clean.split import (
    SECONDS_OF_A_DAY,
    RowSplits,
    by_fold,
    by_time,
    check_strata,
    draw,
    folds_of,
    stratified,
)
from components.stages.clean.usable_rows import Usable
from components.tasks import base
from components.tasks.base import TargetRules

# Hexadecimal digits of the name of a group.
_NAME_DIGITS = 16


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
        are_named: whether the source names groups.
    """

    names: list[str]
    draws: Mapping[str, bytes]
    pairs: int
    are_named: bool


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
    if rows_are_cases(rows, params):
        dedup_status = np.full(len(rows.key_ids), STAYS, np.int8)
    else:
        dedup_status = resolve_duplicates(
            rows.key_ids, rows.target_ids, rows.splits, conflicts, rows.accepted()
        )
    if params.boilerplate:
        occurrences = np.bincount(rows.key_ids)[rows.key_ids]
        held_out = rows.splits >= OWN_SPLITS.index("validation")
        frequent = occurrences >= params.boilerplate
        dedup_status[frequent & ~held_out] = BOILERPLATE
    return dedup_status


def rows_are_cases(rows: Usable, params: CleanParams) -> bool:
    """Return whether each row is a case of its own, also where its inputs equal those of others.

    It is so where all rows are kept, and most inputs are frequent: such a table could not be split
    otherwise. It is so in a split by time, too: an old row with the inputs of a later one says
    nothing of the future.
    """
    if rows.schema.targets.conflicts(params) != "keep_all":
        return False
    return splits_by_time(rows, params) or has_few_inputs(rows.key_ids)


def splits_by_time(rows: Usable, params: CleanParams) -> bool:
    """Return whether rows are split by time, which a source with splits of its own is not."""
    return params.split_by == "time" and not rows.has_splits


def group_rows(
    task: str,
    params: CleanParams,
    seed: int,
    rows: Usable,
    kept: Rows,
    cache: Cache,
) -> Groups:
    """Return the group of each row that stays.

    Near-duplicates share one, and so do rows with the same group key of the source. Rows with
    equal inputs share one where the task keeps them, unless each row is a case of its own.

    Args:
        task: the task's id.
        params: of clean.
        seed: of the split.
        rows: usable rows.
        kept: the rows that stay.
        cache: cache of earlier runs.
    """
    schema = rows.schema
    clusters = UnionFind(len(kept))
    are_cases = rows_are_cases(rows, params)
    if not are_cases and schema.targets.conflicts(params) in ("keep", "keep_all"):
        _join_equal(clusters, enumerate(rows.key_ids[kept].tolist()))
    pairs = 0
    threshold = near_duplicate_threshold(params)
    if schema.split.near_duplicates and threshold < 1:
        key = row_wise_key(task, schema, params, seed)
        similarities = SimilarityCache(rows, kept, schema.fields(params), threshold, cache, key)
        bands = {name: rows.bands(name, kept) for name in base.input_names(schema)}
        pairs = lsh_pairs(bands, similarities, clusters)
        similarities.save()
    named = dict(rows.groups(kept))
    _join_equal(clusters, named.items())
    if are_cases:
        own_names = _case_names(rows, kept, named)
        own_draws = [draw(name, seed) for name in own_names]
    else:
        own_names = rows.column("group", kept)
        own_draws = rows.column("draw", kept)
    roots = clusters.roots().tolist()
    if params.fold is not None:
        roots = _first_drawn(roots, own_draws)
    names = [own_names[root] for root in roots]
    draws = {own_names[root]: own_draws[root] for root in roots}
    return Groups(names, draws, pairs, bool(named))


def _case_names(rows: Usable, kept: Rows, named: Mapping[int, str]) -> list[str]:
    """Return a name for each row that stays, as a case of its own.

    Rows with equal inputs, targets and groups of the source are numbered, so that the names are
    the same in any order.

    Args:
        rows: usable rows.
        kept: (positions,) the rows that stay.
        named: position -> group of the source.
    """
    inputs = rows.column("group", kept)
    numbers: Counter[str] = Counter()
    names = []
    for position, target in enumerate(rows.targets(kept)):
        content = f"{inputs[position]}/{target}/{named.get(position)}"
        text = f"{content}/{numbers[content]}"
        numbers[content] += 1
        names.append(hashlib.sha256(text.encode()).hexdigest()[:_NAME_DIGITS])
    return names


def _first_drawn(roots: Sequence[int], draws: Sequence[bytes]) -> list[int]:
    """Return for each row the row of its cluster with the least hash, whatever the order of rows.

    Args:
        roots: (rows,) a row of each row's cluster.
        draws: (rows,) hashes.
    """
    first: dict[int, int] = {}
    for position in sorted(range(len(roots)), key=draws.__getitem__):
        first.setdefault(roots[position], position)
    return [first[root] for root in roots]


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
) -> RowSplits:
    """Return the split of each row that stays: the source's own where it has splits, else ours.

    Args:
        rows: usable rows.
        kept: the rows that stay.
        groups: of the rows that stay.
        strata: of the rows that stay.
        params: of clean.

    Returns:
        The splits, with the rows that are dropped: train rows that leak into a canonical split, or
        rows just before validation or test in a split by time.

    Raises:
        InputError: a stratum has too few groups, the source names no test rows, there is no time
            to split by, or folds are wanted of a source with splits.
    """
    if rows.splits[kept].any():
        return _canonical_splits(rows, kept, groups, strata, params)
    if params.split_by == "time":
        return by_time(
            groups.names,
            rows.moments(kept),
            params.validation_share,
            params.test_share,
            params.embargo_days * SECONDS_OF_A_DAY,
        )
    too_few = _too_few_groups(rows.schema.targets, params)
    if params.fold is not None:
        splits = _fold_splits(groups, strata, params.fold, params.validation_share, too_few)
    else:
        splits = stratified(
            groups.names,
            strata,
            params.validation_share,
            params.test_share,
            groups.draws,
        )
    check_strata(groups.names, strata, splits, too_few)
    return RowSplits(splits)


def _too_few_groups(rules: TargetRules, params: CleanParams) -> Callable[[str, int], InputError]:
    """Return the error of a stratum with too few groups, as a function of name and number."""

    def error(stratum: str, groups: int) -> InputError:
        """Return the error with what else helps where near-duplicates form the groups."""
        plain = rules.too_few_groups(stratum, groups)
        if near_duplicate_threshold(params) == 1:
            return plain
        remedy = (
            "if rows are much alike but no copies, set clean.near_duplicates: 1.0; "
            f"else {plain.remedy}"
        )
        return InputError(plain.what, where=plain.where, remedy=remedy)

    return error


def _fold_splits(
    groups: Groups,
    strata: Sequence[str],
    fold: Fold,
    validation_share: float,
    too_few: Callable[[str, int], InputError],
) -> list[str]:
    """Return the splits with a fold as test.

    Args:
        groups: of the rows.
        strata: of the rows.
        fold: that is test.
        validation_share: of all rows, 0-1.
        too_few: error for the name of a stratum and the number of its groups.

    Raises:
        InputError: a stratum is not in each fold.
    """
    folds = folds_of(groups.names, strata, fold.count, groups.draws)
    folds_with = Counter(stratum for stratum, _ in set(zip(strata, folds, strict=True)))
    for stratum, count in sorted(folds_with.items()):
        if count < fold.count:
            error = too_few(stratum, count)
            raise InputError(
                f"{error.what}, and in each of {fold.count} folds",
                where="clean.fold",
                remedy=f"set clean.fold.count: {max(count, 2)}, or clean.fold: null, or "
                f"{error.remedy}",
            )
    return by_fold(
        groups.names,
        strata,
        folds,
        number=fold.number,
        validation=validation_share,
        draws=groups.draws,
    )


def _canonical_splits(
    rows: Usable,
    kept: Rows,
    groups: Groups,
    strata: Sequence[str],
    params: CleanParams,
) -> RowSplits:
    """Return the splits of a source that names them; validation is drawn where it names none.

    Args:
        rows: usable rows.
        kept: the rows that stay.
        groups: of the rows that stay.
        strata: of the rows that stay.
        params: of clean.

    Raises:
        InputError: the source names no test rows, or folds are wanted.
    """
    if params.fold is not None:
        raise InputError(
            "the source says itself what is test, and each fold tests other rows",
            where="clean.fold",
            remedy="set clean.fold: null, or bring the rows without splits: as one file, with no "
            "ingest.columns.split",
        )
    splits = [OWN_SPLITS[split] or "train" for split in rows.splits[kept].tolist()]
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
    return RowSplits(splits, leaking)


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
