"""Splits of the rows: seeded, stratified, by group, by time."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from components.core.errors import InputError

# Train, validation and test.
_SPLITS = 3


def draw(group: str, seed: int) -> bytes:
    """Return a seeded hash of a group, by which groups are ordered."""
    return hashlib.sha256(f"{seed}/{group}".encode()).digest()


def stratified(
    groups: Sequence[str],
    strata: Sequence[str],
    validation: float,
    test: float,
    draws: Mapping[str, bytes],
) -> list[str]:
    """Return the split of each row; rows of one group share it.

    Groups are ordered by a seeded hash of their name, so the result depends neither on the order
    of the rows nor on a generator's version. A group counts for the rarest stratum that it has
    rows of. Each stratum with three groups or more gets at least one row of each split.

    Args:
        groups: (rows,) group names.
        strata: (rows,) stratum names.
        validation: share of the rows of each stratum, 0-1.
        test: share of the rows of each stratum, 0-1.
        draws: hash of each group.

    Returns:
        (rows,) 'train' | 'validation' | 'test'.
    """
    counts = Counter(strata)
    # The rarest first.
    by_frequency = sorted(counts, key=lambda name: (counts[name], name))
    rank = {name: number for number, name in enumerate(by_frequency)}
    numbers = {group: number for number, group in enumerate(dict.fromkeys(groups))}
    group_of = np.array([numbers[group] for group in groups])
    sizes = np.bincount(group_of)
    rarest = np.full(len(numbers), len(rank))
    np.minimum.at(rarest, group_of, [rank[stratum] for stratum in strata])
    digests = [draws[group] for group in numbers]
    group_splits = np.empty(len(numbers), object)
    for number in rank.values():
        members = np.flatnonzero(rarest == number)
        total = int(sizes[members].sum())
        limit = max(1, round(total * min(validation, test) / 4))
        by_hash = sorted(members.tolist(), key=digests.__getitem__)
        # Large groups come last, which is into train: a stock phrase with a hundred variants must
        # not fill the test split.
        small = [group for group in by_hash if sizes[group] <= limit]
        large = [group for group in by_hash if sizes[group] > limit]
        order = small + large
        group_splits[order] = _assign(sizes[order].tolist(), total, validation, test)
    splits: list[str] = group_splits[group_of].tolist()
    return splits


def by_time(
    groups: Sequence[str],
    moments: NDArray[np.float64],
    validation: float,
    test: float,
    embargo: float,
) -> tuple[list[str], set[int]]:
    """Return the split of each row by time: the latest rows are test, those before validation.

    A group counts with its latest row, and rows of one moment are in one split. So nothing that
    training sees was known only later.

    Args:
        groups: (rows,) group names.
        moments: (rows,) in seconds; NaN counts as the oldest.
        validation: share of the rows, 0-1.
        test: share of the rows, 0-1.
        embargo: seconds before validation and before test whose rows are left out.

    Returns:
        (rows,) 'train' | 'validation' | 'test', and the positions of rows that are left out.

    Raises:
        InputError: the rows are of too few moments for three splits.
    """
    own = np.nan_to_num(np.asarray(moments, dtype=float), nan=-np.inf)
    numbers = {group: number for number, group in enumerate(dict.fromkeys(groups))}
    group_of = np.array([numbers[group] for group in groups])
    latest = np.full(len(numbers), -np.inf)
    np.maximum.at(latest, group_of, own)
    time = latest[group_of]
    rows = len(time)
    values, counts = np.unique(time, return_counts=True)
    # Rows at a moment or later.
    later = counts[::-1].cumsum()[::-1]
    test_start = _start(values, later, max(1, round(rows * test)))
    held_out = round(rows * test) + max(1, round(rows * validation))
    validation_start = _start(values, later, max(held_out, int((time >= test_start).sum()) + 1))
    splits = np.where(time >= validation_start, "validation", "train")
    splits = np.where(time >= test_start, "test", splits)
    if len(set(splits.tolist())) < _SPLITS:
        raise InputError(
            f"has {len(values):,} different times in {rows:,} rows: too few for three splits",
            where="ingest.columns.time",
            remedy="name a column with finer times, or set clean.split_by: hash",
        )
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
    return splits.tolist(), left_out


def _start(values: NDArray[np.float64], later: NDArray[np.int64], rows: int) -> float:
    """Return the latest moment from which on there are at least so many rows.

    Args:
        values: (k,) moments, ascending.
        later: (k,) rows at each of them or later.
        rows: at least one.
    """
    return float(values[np.flatnonzero(later >= min(rows, later[0]))[-1]])


def check_strata(
    groups: Sequence[str],
    strata: Sequence[str],
    splits: Sequence[str],
    too_few: Callable[[str, int], InputError],
) -> None:
    """Check that each stratum is in all three splits.

    Args:
        groups: (rows,) group names.
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
    pairs = zip(groups, strata, strict=True)
    independent = {group for group, stratum in pairs if stratum == name}
    raise too_few(name, len(independent))


def _assign(sizes: Sequence[int], total: int, validation: float, test: float) -> list[str]:
    """Return the split of each group of a stratum.

    Test is filled first, then validation, until each has its share. The last two groups leave
    something for validation and train.

    Args:
        sizes: (groups,) rows of each group.
        total: rows of all groups.
        validation: share of the rows, 0-1.
        test: share of the rows, 0-1.
    """
    test_target = max(1, round(total * test))
    validation_target = max(1, round(total * validation))
    test_rows = 0
    validation_rows = 0
    splits: list[str] = []
    for left, size in zip(range(len(sizes), 0, -1), sizes, strict=True):
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
