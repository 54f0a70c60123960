"""The split, made once: seeded, stratified, by group."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Sequence

from components.core.errors import InputError


def stratified(groups: Sequence[str], labels: Sequence[str], validation: float, test: float, seed: int) -> list[str]:
    """Give every row a split; rows of one group share it.

    Groups are ordered by a seeded hash of their name, so the result depends neither on the order of the rows nor on a generator's version.
    A group counts for the rarest class that it has rows of. Each class gets at least one row of each split.

    Args:
        groups: (rows,) group names.
        labels: (rows,) class names.
        validation: share of the rows of each class.
        test: likewise.

    Returns:
        (rows,) 'train' | 'validation' | 'test'.

    Raises:
        InputError: a class has too few groups for that.
    """
    members: dict[str, list[int]] = defaultdict(list)
    for row, group in enumerate(groups):
        members[group].append(row)
    counts = Counter(labels)
    by_class: dict[str, list[str]] = defaultdict(list)
    for group, rows in members.items():
        by_class[min({labels[row] for row in rows}, key=lambda name: (counts[name], name))].append(group)
    splits = [""] * len(groups)
    for own in by_class.values():
        # Largest groups first into train: a stock phrase with a hundred variants must not fill the test split.
        total = sum(len(members[group]) for group in own)
        limit = max(1, round(total * min(validation, test) / 4))
        order = sorted(own, key=lambda group: (len(members[group]) > limit, hashlib.sha256(f"{seed}/{group}".encode()).digest()))
        for group, split in zip(order, _assign([len(members[group]) for group in order], total, validation, test), strict=True):
            for row in members[group]:
                splits[row] = split
    _check(groups, labels, splits)
    return splits


def _check(groups: Sequence[str], labels: Sequence[str], splits: Sequence[str]) -> None:
    found: dict[str, set[str]] = defaultdict(set)
    for label, split in zip(labels, splits, strict=True):
        found[label].add(split)
    if poor := sorted(name for name, some in found.items() if len(some) < 3):
        own = len({group for group, label in zip(groups, labels, strict=True) if label == poor[0]})
        raise InputError(f"class {poor[0]!r} has only {own} independent group(s) of rows, too few for one in each split", where="clean", remedy="bring more data, or set clean.small_classes: merge")


def _assign(sizes: Sequence[int], total: int, validation: float, test: float) -> list[str]:
    wanted = {"test": max(1, round(total * test)), "validation": max(1, round(total * validation))}
    given = {"test": 0, "validation": 0}
    result = []
    for position, size in enumerate(sizes):
        left = len(sizes) - position
        split = next((name for name in ("test", "validation") if given[name] < wanted[name]), "train")
        if left == 1:
            split = "train"
        elif left == 2 and given["validation"] == 0:
            split = "validation"
        if split != "train":
            given[split] += size
        result.append(split)
    return result
