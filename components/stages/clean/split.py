"""Splits of the rows: seeded, stratified, by group, by time, in folds."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from components.core.errors import InputError

SECONDS_OF_A_DAY = 86_400
Rows = NDArray[np.int64]
# Train, validation and test.
_SPLITS = 3


@dataclass(frozen=True)
class RowSplits:
    """Split of each row, and the rows that no split gets.

    Args:
        splits: (rows,) 'train' | 'validation' | 'test'.
        leaking: positions of rows that are similar to a row of a later split.
        embargoed: positions of rows whose time is too near a later split.
        after_test: rows of train and validation that are later than all rows of test.
    """

    splits: Sequence[str]
    leaking: set[int] = field(default_factory=set)
    embargoed: set[int] = field(default_factory=set)
    after_test: int = 0

    @property
    def dropped(self) -> set[int]:
        """Return the positions of the rows that no split gets."""
        return self.leaking | self.embargoed


@dataclass(frozen=True)
class _Strata:
    """Groups by the rarest stratum that they have rows of.

    Args:
        sizes: (groups,) rows of each group.
        members: of each stratum, the rarest first: numbers of its groups, by their hash.
    """

    sizes: Rows
    members: Sequence[Rows]


def _by_stratum(groups: Rows, strata: Sequence[str], ranks: Rows) -> _Strata:
    """Return the groups by stratum.

    Args:
        groups: (rows,) number of the group of each row.
        strata: (rows,) stratum names.
        ranks: (groups,) place of each group in the order of the hashes.
    """
    counts = Counter(strata)
    # The rarest first.
    by_frequency = sorted(counts, key=lambda name: (counts[name], name))
    number_of = {name: number for number, name in enumerate(by_frequency)}
    numbers = np.fromiter((number_of[name] for name in strata), np.int64, len(strata))
    rarest = np.full(len(ranks), len(number_of))
    np.minimum.at(rarest, groups, numbers)
    order = np.lexsort((ranks, rarest))
    edges = np.searchsorted(rarest[order], np.arange(len(number_of) + 1))
    members = [order[start:end] for start, end in pairwise(edges.tolist())]
    return _Strata(np.bincount(groups, minlength=len(ranks)), members)


def draw(group: str, seed: int) -> bytes:
    """Return a seeded hash of a group, by which groups are ordered."""
    return hashlib.sha256(f"{seed}/{group}".encode()).digest()


def ranks_of(draws: pa.FixedSizeBinaryArray) -> Rows:
    """Return (n,) the place of each hash in their order; of equal ones the first comes first.

    Args:
        draws: (n,) of `draw`.
    """
    words = np.frombuffer(draws.buffers()[1], ">u8").reshape(-1, 4)
    words = words[draws.offset : draws.offset + len(draws)]
    order = np.lexsort(words.T[::-1])
    ranks = np.empty(len(order), np.int64)
    ranks[order] = np.arange(len(order))
    return ranks


def stratified(
    groups: Rows,
    strata: Sequence[str],
    validation: float,
    test: float,
    ranks: Rows,
) -> list[str]:
    """Return the split of each row; rows of one group share it.

    Groups are ordered by a seeded hash of their name, so the result depends neither on the order
    of the rows nor on a generator's version. A group counts for the rarest stratum that it has
    rows of. Each stratum with three groups or more gets at least one row of each split.

    Args:
        groups: (rows,) number of the group of each row.
        strata: (rows,) stratum names.
        validation: share of the rows of each stratum, 0-1.
        test: share of the rows of each stratum, 0-1. 0: none is test.
        ranks: (groups,) of `ranks_of`.

    Returns:
        (rows,) 'train' | 'validation' | 'test'.
    """
    by_stratum = _by_stratum(groups, strata, ranks)
    sizes = by_stratum.sizes
    least_share = min(share for share in (validation, test) if share)
    group_splits = np.empty(len(sizes), object)
    for members in by_stratum.members:
        total = int(sizes[members].sum())
        limit = max(1, round(total * least_share / 4))
        # Large groups come last, which is into train: a stock phrase with a hundred variants must
        # not fill the test split.
        is_large = sizes[members] > limit
        order = np.concatenate([members[~is_large], members[is_large]])
        group_splits[order] = _assign(sizes[order], total, validation, test)
    splits: list[str] = group_splits[groups].tolist()
    return splits


def folds_of(groups: Rows, strata: Sequence[str], count: int, ranks: Rows) -> list[int]:
    """Return the fold of each row; rows of one group share it.

    The folds have about as many rows of each stratum. They depend on the rows and on the seed of
    the hash, and not on the order of the rows.

    Args:
        groups: (rows,) number of the group of each row.
        strata: (rows,) stratum names.
        count: number of folds.
        ranks: (groups,) of `ranks_of`.

    Returns:
        (rows,) 1 to `count`.
    """
    by_stratum = _by_stratum(groups, strata, ranks)
    sizes = by_stratum.sizes
    fold_of = np.zeros(len(sizes), np.int64)
    totals = [0] * count
    for members in by_stratum.members:
        rows = [0] * count
        # Small groups even out what large ones leave.
        for group in members[np.argsort(-sizes[members], kind="stable")].tolist():
            fold = min(range(count), key=lambda number: (rows[number], totals[number]))
            rows[fold] += int(sizes[group])
            totals[fold] += int(sizes[group])
            fold_of[group] = fold + 1
    folds: list[int] = fold_of[groups].tolist()
    return folds


def by_fold(
    groups: Rows,
    strata: Sequence[str],
    folds: Sequence[int],
    *,
    number: int,
    validation: float,
    ranks: Rows,
) -> list[str]:
    """Return the split of each row: test is one fold, and validation is drawn from the others.

    Args:
        groups: (rows,) number of the group of each row.
        strata: (rows,) stratum names.
        folds: (rows,) of `folds_of`.
        number: the fold that is test.
        validation: share of all rows, 0-1.
        ranks: (groups,) of `ranks_of`.

    Returns:
        (rows,) 'train' | 'validation' | 'test'.
    """
    rest = [position for position, fold in enumerate(folds) if fold != number]
    drawn = stratified(
        groups[rest],
        [strata[position] for position in rest],
        validation * len(folds) / max(1, len(rest)),
        0.0,
        ranks,
    )
    splits = ["test"] * len(folds)
    for position, split in zip(rest, drawn, strict=True):
        splits[position] = split
    return splits


def by_time(
    groups: Rows,
    moments: NDArray[np.float64],
    validation: float,
    test: float,
    embargo: float,
) -> RowSplits:
    """Return the split of each row by time: the latest rows are test, those before validation.

    A group counts with its latest row, and rows of one moment are in one split. So nothing that
    training sees was known only later.

    Args:
        groups: (rows,) number of the group of each row.
        moments: (rows,) in seconds; NaN counts as the oldest.
        validation: share of the rows, 0-1.
        test: share of the rows, 0-1.
        embargo: seconds before validation and before test whose rows are left out.

    Raises:
        InputError: the rows are of too few moments for three splits, or the embargo leaves too few.
    """
    own, time = _times(groups, moments)
    rows = len(time)
    values, counts = np.unique(time, return_counts=True)
    if len(values) < _SPLITS:
        raise InputError(
            f"has {len(values):,} different times in {rows:,} rows: too few for three splits",
            where="ingest.columns.time",
            remedy="name a column with finer times, or set clean.split_by: hash",
        )
    # Rows at a moment or later.
    later = counts[::-1].cumsum()[::-1]
    # Two moments are left for validation and for train.
    test_start = max(_start(values, later, round(rows * test)), float(values[2]))
    before = values[values < test_start]
    tested = int((time >= test_start).sum())
    validation_start = _start(before, later[: len(before)] - tested, round(rows * validation))
    splits = np.where(time >= validation_start, "validation", "train")
    splits = np.where(time >= test_start, "test", splits)
    near_test = (splits == "validation") & (own > test_start - embargo)
    near_validation = (splits == "train") & (own > validation_start - embargo)
    left_out: set[int] = set()
    if embargo:
        left_out = set(np.flatnonzero(near_test | near_validation).tolist())
    remaining = np.delete(splits, list(left_out))
    if len(set(remaining.tolist())) < _SPLITS:
        raise InputError(
            f"leaves no row of train or of validation out of {rows:,}",
            where="clean.embargo_days",
            remedy="state fewer days, or larger shares of validation and test",
        )
    return RowSplits(splits.tolist(), embargoed=left_out)


def around_test(
    groups: Rows,
    moments: NDArray[np.float64],
    tested: NDArray[np.bool_],
    validation: float,
    embargo: float,
) -> RowSplits:
    """Return the split of each row around test rows that are fixed.

    The latest of the other rows are validation, those before them train, also where they are later
    than the test rows. Rows from the time of the test rows, and near it on both sides, are left out
    (purging and embargo, López de Prado 2018). Without later rows the result is that of `by_time`.

    Args:
        groups: (rows,) number of the group of each row.
        moments: (rows,) in seconds; NaN counts as the oldest.
        tested: (rows,) whether a row is of the fixed test split; at least one.
        validation: share of the rows, 0-1.
        embargo: seconds around test and before validation whose rows are left out.

    Raises:
        InputError: no row of train or of validation is left.
    """
    own, time = _times(groups, moments)
    _, test_times = _times(groups[tested], moments[tested])
    start = test_times.min()
    end = test_times.max()
    leaking = ~tested & np.isin(groups, groups[tested])
    others = ~tested & ~leaking
    values, counts = np.unique(time[others], return_counts=True)
    validation_start = np.inf
    if len(values) > 1:
        later = counts[::-1].cumsum()[::-1]
        validation_start = _start(values, later, round(len(time) * validation))
    splits = np.where(time >= validation_start, "validation", "train")
    splits = np.where(tested, "test", splits)
    in_test = (own >= start) & (own <= end)
    near_test = (own > start - embargo) & (own < end + embargo)
    near_validation = (splits == "train") & (own > validation_start - embargo)
    too_near = in_test | near_test
    if embargo:
        too_near |= near_validation
    embargoed = others & too_near
    remaining = splits[~leaking & ~embargoed]
    if len(set(remaining.tolist())) < _SPLITS:
        raise InputError(
            f"leaves no row of train or of validation out of {len(time):,}",
            where="clean.frozen_split",
            remedy="set clean.frozen_split: null for a split made anew, or state fewer "
            "clean.embargo_days",
        )
    return RowSplits(
        splits.tolist(),
        leaking=set(np.flatnonzero(leaking).tolist()),
        embargoed=set(np.flatnonzero(embargoed).tolist()),
        after_test=int((others & ~embargoed & (own > end)).sum()),
    )


def _times(
    groups: Rows, moments: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return (rows,) the time of each row, and the time of the latest row of its group."""
    own = np.nan_to_num(np.asarray(moments, dtype=float), nan=-np.inf)
    latest = np.full(groups.max(initial=-1) + 1, -np.inf)
    np.maximum.at(latest, groups, own)
    return own, latest[groups]


def _start(values: NDArray[np.float64], later: NDArray[np.int64], rows: int) -> float:
    """Return the latest moment from which on there are at least so many rows.

    Without so many rows it is the second moment, so that the oldest rows are left for train.

    Args:
        values: (k,) moments, ascending; at least two.
        later: (k,) rows at each of them or later.
        rows: how many.
    """
    enough = np.flatnonzero(later >= max(1, rows))
    return float(values[max(1, enough[-1] if len(enough) else 0)])


def check_strata(
    groups: Rows,
    strata: Sequence[str],
    splits: Sequence[str],
    too_few: Callable[[str, int], InputError],
) -> None:
    """Check that each stratum is in all three splits.

    Args:
        groups: (rows,) number of the group of each row.
        strata: (rows,) stratum names.
        splits: (rows,) of `stratified`.
        too_few: error for the name of a stratum and the number of its groups.

    Raises:
        InputError: a stratum has too few groups for that.
    """
    stratum_splits = set(zip(strata, splits, strict=True))
    counts = Counter(stratum for stratum, _ in stratum_splits)
    poor = sorted(name for name, count in counts.items() if count < _SPLITS)
    if not poor:
        return
    name = poor[0]
    in_stratum = [position for position, stratum in enumerate(strata) if stratum == name]
    raise too_few(name, len(set(groups[in_stratum].tolist())))


def _assign(
    sizes: Rows,
    total: int,
    validation: float,
    test: float,
) -> list[str]:
    """Return the split of each group of a stratum.

    Test is filled first, then validation, until each has its share. The last two groups leave
    something for validation and train. Without a share of test, nothing is test.

    Args:
        sizes: (groups,) rows of each group.
        total: rows of all groups.
        validation: share of the rows, 0-1.
        test: share of the rows, 0-1.
    """
    test_target = max(1, round(total * test)) if test else 0
    validation_target = max(1, round(total * validation))
    test_rows = 0
    validation_rows = 0
    splits: list[str] = []
    # A view gives one number at a time, where a list would hold all of them.
    for left, size in zip(range(len(sizes), 0, -1), sizes.data, strict=True):
        test_full = test_rows >= test_target
        validation_full = validation_rows >= validation_target
        if test_full and validation_full:
            return splits + ["train"] * left
        if left == 1:
            splits.append("train")
        elif not test_full and not (left == 2 and validation_rows == 0):
            test_rows += size
            splits.append("test")
        elif not validation_full:
            validation_rows += size
            splits.append("validation")
        else:
            splits.append("train")
    return splits
