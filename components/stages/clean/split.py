"""The split, made once: seeded, stratified, by group."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from components.core.errors import InputError


def draw(group: str, seed: int) -> bytes:
    """Where a group stands among the others."""
    return hashlib.sha256(f"{seed}/{group}".encode()).digest()


def stratified(
    groups: Sequence[str],
    labels: Sequence[str],
    validation: float,
    test: float,
    draws: Mapping[str, bytes],
    least: int = 3,
) -> list[str]:
    """Give every row a split; rows of one group share it.

    Groups are ordered by a seeded hash of their name, so the result depends neither on the order of the rows nor on a generator's version.
    A group counts for the rarest class that it has rows of. Each class gets at least one row of each split.

    Args:
        groups: (rows,) group names.
        labels: (rows,) class names.
        validation: share of the rows of each class.
        test: likewise.
        draws: of each group.
        least: splits in which each class must be.

    Returns:
        (rows,) 'train' | 'validation' | 'test'.

    Raises:
        InputError: a class has too few groups for that.
    """
    counts = Counter(labels)
    rank = {
        name: place
        for place, name in enumerate(sorted(counts, key=lambda name: (counts[name], name)))
    }  # the rarest first
    numbers = {group: number for number, group in enumerate(dict.fromkeys(groups))}
    group_of = np.array([numbers[group] for group in groups])
    sizes = np.bincount(group_of)
    rarest = np.full(len(numbers), len(rank))
    np.minimum.at(rarest, group_of, [rank[label] for label in labels])
    digests = [draws[group] for group in numbers]
    given = np.empty(len(numbers), object)
    for own in (np.flatnonzero(rarest == place) for place in rank.values()):
        # Largest groups first into train: a stock phrase with a hundred variants must not fill the test split.
        total = int(sizes[own].sum())
        limit = max(1, round(total * min(validation, test) / 4))
        order = sorted(own.tolist(), key=digests.__getitem__)
        order = [group for group in order if sizes[group] <= limit] + [
            group for group in order if sizes[group] > limit
        ]
        given[order] = _assign(sizes[order].tolist(), total, validation, test)
    splits: list[str] = given[group_of].tolist()
    _check(groups, labels, splits, least)
    return splits


def _check(groups: Sequence[str], labels: Sequence[str], splits: Sequence[str], least: int) -> None:
    found = Counter(label for label, _ in set(zip(labels, splits, strict=True)))
    if poor := sorted(name for name, count in found.items() if count < least):
        own = len({group for group, label in zip(groups, labels, strict=True) if label == poor[0]})
        raise InputError(
            f"class {poor[0]!r} has only {own} independent group(s) of rows, too few for one in each split",
            where="clean",
            remedy="if its rows are much alike but no copies, set clean.near_duplicates: 1.0; else bring more data, or leave the class out with ingest.labels",
        )


def _assign(sizes: Sequence[int], total: int, validation: float, test: float) -> list[str]:
    """Test first, then validation, until each has its share; the last two groups leave something for validation and train."""
    wanted_test, wanted_validation = max(1, round(total * test)), max(1, round(total * validation))
    given_test = given_validation = 0
    result: list[str] = []
    for left, size in zip(range(len(sizes), 0, -1), sizes, strict=True):
        if given_test >= wanted_test and given_validation >= wanted_validation:
            return result + ["train"] * left
        if left == 1:
            result.append("train")
        elif given_test < wanted_test and not (left == 2 and given_validation == 0):
            given_test += size
            result.append("test")
        elif given_validation < wanted_validation:
            given_validation += size
            result.append("validation")
        else:
            result.append("train")
    return result
