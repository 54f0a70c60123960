"""Equal and similar rows: which to drop, which must stay together."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from components.fields.base import Field

# A band shared by more rows than this is a stock phrase: comparing all pairs would be quadratic, neighbours in order suffice for a chain.
_MAX_PAIRWISE = 30


class Clusters:
    """Union-find over row numbers."""

    def __init__(self, rows: int) -> None:
        self.parent = list(range(rows))

    def find(self, row: int) -> int:
        """The smallest row of the cluster."""
        while self.parent[row] != row:
            self.parent[row] = self.parent[self.parent[row]]
            row = self.parent[row]
        return row

    def join(self, a: int, b: int) -> None:
        """Put two rows into one cluster."""
        a, b = self.find(a), self.find(b)
        self.parent[max(a, b)] = min(a, b)


def settle_equal(keys: Sequence[str], labels: Sequence[str], splits: Sequence[str | None], conflicts: str) -> dict[int, str]:
    """Which rows go, and why, so that each key stands once.

    Args:
        keys: equal for rows that count as the same.
        splits: the source's own split or None. Its test rows all stay, and its validation rows that equal none of them: figures on them are compared
            with those of others. Of rows that are equal to neither, the first stays.
        conflicts: 'drop' (no row of a key with several labels stays) or 'majority' (the label that most have; a tie drops all).

    Returns:
        row -> 'conflicting_labels' or 'duplicate'.
    """
    by_key: dict[str, list[int]] = defaultdict(list)
    for row, key in enumerate(keys):
        by_key[key].append(row)
    gone: dict[int, str] = {}
    for rows in by_key.values():
        held = next((some for split in ("test", "validation") if (some := {row for row in rows if splits[row] == split})), None)
        if held:
            gone |= {row: "duplicate" for row in rows if row not in held}
            continue
        candidates = rows
        votes = Counter(labels[row] for row in rows).most_common()
        if len(votes) > 1:
            tie = votes[0][1] == votes[1][1]
            candidates = [] if conflicts == "drop" or tie else [row for row in rows if labels[row] == votes[0][0]]
            chosen = set(candidates)
            gone |= {row: "conflicting_labels" for row in rows if row not in chosen}
        gone |= dict.fromkeys(candidates[1:], "duplicate")
    return gone


def similar_rows(columns: Mapping[str, Sequence[Any]], fields: Mapping[str, Field], signatures: Mapping[str, Sequence[NDArray[np.uint64] | None]], threshold: float, clusters: Clusters) -> int:
    """Join rows whose inputs are similar (locality-sensitive hashing, each pair confirmed).

    Args:
        columns: input column -> (rows,) cleaned values.
        signatures: input column -> (rows,) bands.
        threshold: similarity from which two values are one, in every input column.

    Returns:
        The number of confirmed pairs.
    """
    confirmed = 0
    seen: set[tuple[int, int]] = set()
    for name, bands in signatures.items():
        buckets: dict[tuple[int, int], list[int]] = defaultdict(list)
        for row, signature in enumerate(bands):
            for band, value in enumerate(signature if signature is not None else ()):
                buckets[band, int(value)].append(row)
        for rows in buckets.values():
            pairs = pairwise(rows) if len(rows) > _MAX_PAIRWISE else ((a, b) for i, a in enumerate(rows) for b in rows[i + 1 :])
            for pair in pairs:
                if pair in seen or clusters.find(pair[0]) == clusters.find(pair[1]):
                    continue
                seen.add(pair)
                if fields[name].similar(columns[name][pair[0]], columns[name][pair[1]]) >= threshold:
                    clusters.join(*pair)
                    confirmed += 1
    return confirmed
