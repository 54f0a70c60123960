"""The split, made once: seeded, stratified, by group."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Sequence

from components.core.errors import InputError


def stratified(groups: Sequence[str], labels: Sequence[str], validation: float, test: float, seed: int) -> list[str]:
    """Give every row a split; rows of one group share it.

    Groups are ordered by a seeded hash of their name, so the result depends neither on the order of the rows nor on a generator's version.
    A group counts for the class that most of its rows have. Each class gets at least one group of each split.

    Args:
        groups: (rows,) group names.
        labels: (rows,) class names.
        validation: share of the rows of each class.
        test: likewise.

    Returns:
        (rows,) 'train' | 'validation' | 'test'.

    Raises:
        InputError: a class has fewer than three groups.
    """
    members: dict[str, list[int]] = defaultdict(list)
    for row, group in enumerate(groups):
        members[group].append(row)
    by_class: dict[str, list[str]] = defaultdict(list)
    for group, rows in members.items():
        votes = Counter(labels[row] for row in rows)
        by_class[min(votes, key=lambda name: (-votes[name], name))].append(group)
    splits = [""] * len(groups)
    for name, own in sorted(by_class.items()):
        if len(own) < 3:
            raise InputError(f"class {name!r} has only {len(own)} independent group(s) of rows, a split needs three", where="clean", remedy="bring more data, or set clean.small_classes: merge")
        # Largest groups first into train: a stock phrase with a hundred variants must not fill the test split.
        total = sum(len(members[group]) for group in own)
        limit = max(1, round(total * min(validation, test) / 4))
        order = sorted(own, key=lambda group: (len(members[group]) > limit, hashlib.sha256(f"{seed}/{group}".encode()).digest()))
        for group, split in zip(order, _assign([len(members[group]) for group in order], total, validation, test), strict=True):
            for row in members[group]:
                splits[row] = split
    return splits


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
