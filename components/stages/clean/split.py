"""Splits of the rows: seeded, stratified, by group."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from components.core.errors import InputError


def draw(group: str, seed: int) -> bytes:
    """Return a seeded hash of a group, by which groups are ordered."""
    return hashlib.sha256(f"{seed}/{group}".encode()).digest()


def stratified(
    groups: Sequence[str],
    labels: Sequence[str],
    validation: float,
    test: float,
    draws: Mapping[str, bytes],
    least: int = 3,
) -> list[str]:
    """Return the split of each row; rows of one group share it.

    Groups are ordered by a seeded hash of their name, so the result depends neither on the order
    of the rows nor on a generator's version. A group counts for the rarest class that it has rows
    of. Each class gets at least one row of each split.

    Args:
        groups: (rows,) group names.
        labels: (rows,) class names.
        validation: share of the rows of each class, 0-1.
        test: share of the rows of each class, 0-1.
        draws: hash of each group.
        least: number of splits in which each class must be.

    Returns:
        (rows,) 'train' | 'validation' | 'test'.

    Raises:
        InputError: a class has too few groups for that.
    """
    counts = Counter(labels)
    # The rarest first.
    by_frequency = sorted(counts, key=lambda name: (counts[name], name))
    rank = {name: number for number, name in enumerate(by_frequency)}
    numbers = {group: number for number, group in enumerate(dict.fromkeys(groups))}
    group_of = np.array([numbers[group] for group in groups])
    sizes = np.bincount(group_of)
    rarest = np.full(len(numbers), len(rank))
    np.minimum.at(rarest, group_of, [rank[label] for label in labels])
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
    _check(groups, labels, splits, least)
    return splits


def _check(groups: Sequence[str], labels: Sequence[str], splits: Sequence[str], least: int) -> None:
    """Check that each class is in enough splits.

    Raises:
        InputError: a class is in too few.
    """
    label_splits = set(zip(labels, splits, strict=True))
    counts = Counter(label for label, _ in label_splits)
    poor = sorted(name for name, count in counts.items() if count < least)
    if not poor:
        return
    name = poor[0]
    pairs = zip(groups, labels, strict=True)
    independent = {group for group, label in pairs if label == name}
    raise InputError(
        f"class {name!r} has only {len(independent)} independent group(s) of rows, "
        "too few for one in each split",
        where="clean",
        remedy="if its rows are much alike but no copies, set clean.near_duplicates: 1.0; "
        "else bring more data, or leave the class out with ingest.labels",
    )


def _assign(sizes: Sequence[int], total: int, validation: float, test: float) -> list[str]:
    """Return the split of each group of a class.

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
