"""Decisions about all rows together: which are dropped, their groups, and the split."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from components.core.cache import Cache
from components.core.errors import InputError
from components.core.mapped_tables import windows
from components.core.tables import ROWS_PER_SHARD
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
    ranks_of,
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
        ranks: (groups,) place of each group, by its number in `names`, in the order of their
            seeded hashes.
        pairs: number of pairs of similar rows.
        are_named: whether the source names groups.
    """

    names: pa.DictionaryArray
    ranks: Rows
    pairs: int
    are_named: bool

    @property
    def numbers(self) -> Rows:
        """Return (rows that stay,) the number of the group of each row."""
        numbers: Rows = self.names.indices.to_numpy().astype(np.int64)
        return numbers


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
    folder: Path | None = None,
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
        folder: for signatures and pairs of rows. None: they are in memory.
    """
    schema = rows.schema
    clusters = UnionFind(len(kept))
    are_cases = rows_are_cases(rows, params)
    if not are_cases and schema.targets.conflicts(params) in ("keep", "keep_all"):
        _join_equal(clusters, rows.key_ids[kept])
    pairs = 0
    threshold = near_duplicate_threshold(params)
    if schema.split.near_duplicates and threshold < 1:
        key = row_wise_key(task, schema, params, seed)
        similarities = SimilarityCache(rows, kept, schema.fields(params), threshold, cache, key)
        bands = {}
        for number, name in enumerate(base.input_names(schema)):
            file = folder / f"bands-{number}.npy" if folder else None
            bands[name] = rows.bands(name, kept, file)
        pairs = lsh_pairs(bands, similarities, clusters, folder)
        similarities.save(folder / "similarities.arrow" if folder else None)
    source_groups = rows.groups(kept).dictionary_encode()
    source_numbers = source_groups.indices.fill_null(-1).to_numpy().astype(np.int64)
    _join_equal(clusters, source_numbers)
    if are_cases:
        own_names = _case_names(rows, kept, source_groups, source_numbers)
        own_draws = pa.array((draw(name.as_py(), seed) for name in own_names), pa.binary(32))
    else:
        own_names = rows.column("group", kept)
        own_draws = rows.column("draw", kept)
    roots = clusters.roots()
    if params.fold is not None:
        roots = _first_drawn(roots, ranks_of(own_draws))
    names = own_names.take(pa.array(roots)).dictionary_encode()
    # Assigned from the last row to the first: of the rows of a group the first remains.
    first = np.empty(len(names.dictionary), np.int64)
    first[names.indices.to_numpy()[::-1]] = roots[::-1]
    ranks = ranks_of(own_draws.take(pa.array(first)))
    return Groups(names, ranks, pairs, bool(len(source_groups.dictionary)))


def _case_names(
    rows: Usable, kept: Rows, source_groups: pa.DictionaryArray, source_numbers: Rows
) -> pa.Array:
    """Return (positions,) a name for each row that stays, as a case of its own.

    Rows with equal inputs, targets and groups of the source are numbered, so that the names are
    the same in any order.

    Args:
        rows: usable rows.
        kept: (positions,) the rows that stay.
        source_groups: (positions,) groups of the source.
        source_numbers: (positions,) their numbers.
    """
    # A row without a group has the name of one in a group "None", so these are numbered together.
    none = source_groups.dictionary.index("None").as_py()
    numbers = np.where(source_numbers == none, -1, source_numbers)
    earlier = _earlier_equals(rows.key_ids[kept], rows.target_ids[kept], numbers)
    names = [pa.array([], pa.string())]
    for window in windows(np.arange(len(kept)), ROWS_PER_SHARD):
        columns = zip(
            rows.column("group", kept[window]).to_pylist(),
            rows.targets(kept[window]),
            source_groups.take(pa.array(window)).to_pylist(),
            earlier[window].tolist(),
            strict=True,
        )
        digests = [hashlib.sha256("/".join(map(str, values)).encode()) for values in columns]
        names.append(pa.array([digest.hexdigest()[:_NAME_DIGITS] for digest in digests]))
    return pa.concat_arrays(names)


def _earlier_equals(*columns: Rows) -> Rows:
    """Return (rows,) how many rows before each row equal it.

    Args:
        columns: (rows,) each.
    """
    order = np.lexsort(columns)
    is_first = np.ones(len(order), bool)
    if len(order):
        is_first[1:] = np.any([column[order[1:]] != column[order[:-1]] for column in columns], 0)
    starts = np.flatnonzero(is_first)
    earlier = np.empty(len(order), np.int64)
    earlier[order] = np.arange(len(order)) - starts[np.cumsum(is_first) - 1]
    return earlier


def _first_drawn(roots: Rows, ranks: Rows) -> Rows:
    """Return for each row the row of its cluster with the least hash, whatever the order of rows.

    Args:
        roots: (rows,) a row of each row's cluster.
        ranks: (rows,) of the hashes.
    """
    least = np.full(len(roots), len(roots))
    np.minimum.at(least, roots, ranks)
    first: Rows = np.argsort(ranks)[least[roots]]
    return first


def _join_equal(clusters: UnionFind, codes: Rows) -> None:
    """Join the positions that have equal numbers; those with -1 stay as they are.

    Args:
        clusters: of the positions.
        codes: (positions,) numbers.
    """
    order = np.argsort(codes, kind="stable")
    ordered = codes[order]
    equal = np.flatnonzero((ordered[1:] == ordered[:-1]) & (ordered[1:] >= 0))
    for one, other in zip(order[equal].data, order[equal + 1].data, strict=True):
        clusters.join(one, other)


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
            groups.numbers,
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
            groups.numbers,
            strata,
            params.validation_share,
            params.test_share,
            groups.ranks,
        )
    check_strata(groups.numbers, strata, splits, too_few)
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
    folds = folds_of(groups.numbers, strata, fold.count, groups.ranks)
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
        groups.numbers,
        strata,
        folds,
        number=fold.number,
        validation=validation_share,
        ranks=groups.ranks,
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
    leaking = _leaking(groups.numbers, splits)
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


def _leaking(groups: Rows, splits: Sequence[str]) -> set[int]:
    """Return the positions of train rows with a row of another split in their group.

    Args:
        groups: (rows,) number of the group of each row.
        splits: (rows,) of the rows.
    """
    is_train = np.fromiter((split == "train" for split in splits), bool, len(splits))
    leaking = is_train & np.isin(groups, groups[~is_train])
    return set(np.flatnonzero(leaking).tolist())


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
        groups.numbers[train],
        [strata[position] for position in train],
        params.validation_share,
        0.001,
        groups.ranks,
    )
    for position, split in zip(train, drawn, strict=True):
        if split != "train":
            splits[position] = "validation"
