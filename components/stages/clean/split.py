"""Splits of the rows: seeded, stratified, by group."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import numpy as np

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
