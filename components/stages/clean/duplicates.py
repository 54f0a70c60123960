"""Equal and similar rows: which to drop, which must stay together."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

STAYS, DUPLICATE, CONFLICTING, BOILERPLATE = range(4)
REASONS = ("", "duplicate", "conflicting_labels", "boilerplate")
OWN_SPLITS = ("", "train", "validation", "test")  # what a source says of a row, by number
# A band shared by more rows than this is a stock phrase: comparing all pairs would be quadratic, neighbors in order suffice for a chain.
_MAX_PAIRWISE = 30
# Bounds of what one row costs, however many rows are made from one template. Partners come in order of the bands they share:
# similar ones share 13 of 32 on average, and a pair below the threshold that shares as many is rare.
_MAX_PARTNERS, _MAX_FAILURES = 64, 8
Rows = NDArray[np.int64]


class UnionFind:
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

    def roots(self) -> Rows:
        """(rows,) the smallest row of each row's cluster."""
        roots = np.array(self.parent, np.int64)
        for row in np.flatnonzero(roots != np.arange(len(roots))).tolist():
            roots[row] = self.find(row)
        return roots


def resolve_duplicates(keys: Rows, labels: Rows, splits: Rows, conflicts: str) -> NDArray[np.int8]:
    """Which rows go, and why, so that each key stands once.

    Args:
        keys: (rows,) equal for rows that count as the same.
        labels: (rows,) equal for rows of one class.
        splits: (rows,) the source's own split, a number of OWN_SPLITS. Its test rows all stay, and its validation rows that equal none of them: figures on
            them are compared with those of others. Of rows that are equal to neither, the first stays.
        conflicts: 'drop' (no row of a key with several labels stays) or 'majority' (the label that most have; a tie drops all).

    Returns:
        (rows,) STAYS, DUPLICATE or CONFLICTING.
    """
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    starts = np.flatnonzero(np.concatenate(([True], ordered[1:] != ordered[:-1])))
    dedup_status = np.full(len(keys), DUPLICATE, np.int8)
    dedup_status[order[starts]] = STAYS
    mixed = np.minimum.reduceat(labels[order], starts) != np.maximum.reduceat(labels[order], starts)
    held = np.maximum.reduceat(splits[order], starts) >= OWN_SPLITS.index("validation")
    ends = np.append(starts[1:], len(keys))
    for group in np.flatnonzero(mixed | held):
        rows = order[starts[group] : ends[group]]
        dedup_status[rows] = _settle(labels[rows], splits[rows], conflicts)
    return dedup_status


def _settle(labels: Rows, splits: Rows, conflicts: str) -> NDArray[np.int8]:
    """The fates of rows of one key, in their order."""
    best = splits.max()
    if best >= OWN_SPLITS.index("validation"):
        return np.where(splits == best, STAYS, DUPLICATE).astype(np.int8)
    names, counts = np.unique(labels, return_counts=True)
    tie = (counts == counts.max()).sum() > 1
    dedup_status = np.full(len(labels), CONFLICTING, np.int8)
    if conflicts == "majority" and not tie:
        voted = np.flatnonzero(labels == names[counts.argmax()])
        dedup_status[voted] = DUPLICATE
        dedup_status[voted[0]] = STAYS
    return dedup_status


def lsh_pairs(
    signatures: Mapping[str, tuple[Rows, NDArray[np.uint64]]],
    similar: Callable[[str, int, int], bool],
    clusters: UnionFind,
) -> int:
    """Join rows whose inputs are similar (locality-sensitive hashing, each pair confirmed).

    A row is compared with the rows before it, those with the most bands in common first, until so many were not similar that further ones will not be either.

    Args:
        signatures: input column -> rows that have one (found,), ascending, and their bands (found, bands).
        similar: whether two rows are one by a column; a pair that shares bands in several columns is judged by the first.
        clusters: of the rows.

    Returns:
        The number of confirmed pairs.
    """
    confirmed, count = 0, len(clusters.parent)
    seen = np.empty(0, np.int64)
    for name, (rows, bands) in signatures.items():
        pairs, shared = _candidates(rows, bands, count)
        fresh = ~np.isin(pairs, seen, assume_unique=True)
        seen = np.union1d(pairs, seen)
        confirmed += _confirm(name, _ranked(pairs[fresh], shared[fresh], count), similar, clusters)
    return confirmed


def _candidates(rows: Rows, bands: NDArray[np.uint64], count: int) -> tuple[Rows, Rows]:
    """Return the pairs that share a band as `earlier * count + later` (pairs,), and how many bands each shares (pairs,)."""
    pairs, shared = np.empty(0, np.int64), np.empty(0, np.int64)
    for band in bands.T:
        places = [rows[one] * count + rows[other] for one, other in _sharing(band)]
        found = np.concatenate([pairs, *places])
        weights = np.concatenate([shared, np.ones(len(found) - len(pairs), np.int64)])
        pairs, inverse = np.unique(found, return_inverse=True)
        shared = np.bincount(inverse, weights, len(pairs)).astype(np.int64)
    return pairs, shared


def _ranked(pairs: Rows, shared: Rows, count: int) -> list[tuple[int, int]]:
    """Return (later, earlier) rows: by the later one, its most promising partners first, at most `_MAX_PARTNERS` of each."""
    earlier, later = np.divmod(pairs, count)
    order = np.lexsort((earlier, -shared, later))
    earlier, later = earlier[order], later[order]
    starts = (
        np.flatnonzero(np.concatenate(([True], later[1:] != later[:-1]))) if len(later) else later
    )
    rank = np.arange(len(later)) - np.repeat(starts, np.diff(np.append(starts, len(later))))
    chosen = rank < _MAX_PARTNERS
    return list(zip(later[chosen].tolist(), earlier[chosen].tolist(), strict=True))


def _confirm(
    name: str,
    pairs: Sequence[tuple[int, int]],
    similar: Callable[[str, int, int], bool],
    clusters: UnionFind,
) -> int:
    """Join the pairs that are similar and not yet joined; returns their number."""
    confirmed, current, failures = 0, -1, 0
    for later, earlier in pairs:
        if later != current:
            current, failures = later, 0
        if failures >= _MAX_FAILURES or clusters.find(earlier) == clusters.find(later):
            continue
        if similar(name, earlier, later):
            clusters.join(earlier, later)
            confirmed += 1
        else:
            failures += 1
    return confirmed


def _sharing(band: NDArray[np.uint64]) -> Iterator[tuple[Rows, Rows]]:
    """Places (pairs,), (pairs,) of equal values: all pairs of a value, or if it has too many, neighbors."""
    values = np.sort(band)
    repeated = values[1:][values[1:] == values[:-1]]
    if not len(repeated):
        return
    places = np.flatnonzero(
        pc.is_in(pa.array(band), value_set=pa.array(repeated)).to_numpy(zero_copy_only=False)
    )  # most values stand once
    places = places[np.argsort(band[places], kind="stable")]
    values = band[places]
    edges = np.flatnonzero(np.concatenate(([True], values[1:] != values[:-1], [True])))
    sizes = np.repeat(np.diff(edges), np.diff(edges))
    for distance in range(1, min(_MAX_PAIRWISE, len(values))):
        same = values[distance:] == values[:-distance]
        if distance > 1:
            same &= sizes[:-distance] <= _MAX_PAIRWISE
        found = np.flatnonzero(same)
        if not len(found):
            return
        yield places[found], places[found + distance]
