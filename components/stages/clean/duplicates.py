"""Equal and similar rows: which are dropped, and which must stay in one split."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from components.core.sorted_arrays import distinct

STAYS = 0
DUPLICATE = 1
CONFLICTING = 2
BOILERPLATE = 3
# Splits that a source can name for a row, by number.
OWN_SPLITS = ("", "train", "validation", "test")
_VALIDATION = OWN_SPLITS.index("validation")
# A band shared by more rows than this is a stock phrase. Comparing all pairs would be quadratic;
# neighbors in order are enough for a chain.
_MAX_PAIRWISE = 30
# Bounds of what one row costs, however many rows are made from one template. Partners come in
# order of the bands they share: similar ones share 13 of 32 on average, and a pair below the
# threshold that shares as many is rare.
_MAX_PARTNERS = 64
_MAX_FAILURES = 8
# Later rows whose pairs are in memory at once.
_ROWS_PER_BLOCK = 50_000
# Pairs that are compared together.
_PAIRS_AT_ONCE = 4096
# Rows with equal inputs from which on they are no copies of each other, and the share of all rows
# that have so frequent inputs where a table has few different inputs.
_FREQUENT = 5
_FREQUENT_SHARE = 0.5
Rows = NDArray[np.int64]
Bands = NDArray[np.uint64]


class UnionFind:
    """Disjoint sets of row numbers (union-find).

    Args:
        rows: number of rows; each begins in a set of its own.
    """

    def __init__(self, rows: int) -> None:
        # Numbers of a list would be objects of 32 bytes.
        self.parent = array("q", np.arange(rows).tobytes())

    def find(self, row: int) -> int:
        """Return the smallest row of the cluster."""
        while self.parent[row] != row:
            self.parent[row] = self.parent[self.parent[row]]
            row = self.parent[row]
        return row

    def join(self, a: int, b: int) -> None:
        """Put two rows into one cluster.

        Args:
            a: number of a row.
            b: number of another row.
        """
        root_a = self.find(a)
        root_b = self.find(b)
        self.parent[max(root_a, root_b)] = min(root_a, root_b)

    def roots(self) -> Rows:
        """Return (rows,) the smallest row of each row's cluster."""
        roots = np.array(self.parent, np.int64)
        for row in np.flatnonzero(roots != np.arange(len(roots))).tolist():
            roots[row] = self.find(row)
        return roots


def reasons(conflict_reason: str) -> Sequence[str]:
    """Return why rows are dropped, by the numbers above.

    Args:
        conflict_reason: of rows with equal inputs and different targets.
    """
    return ("", "duplicate", conflict_reason, "boilerplate")


def has_few_inputs(keys: Rows) -> bool:
    """Return whether most rows have inputs that five rows or more have.

    Args:
        keys: (rows,) equal for rows whose inputs count as the same.
    """
    frequent = np.bincount(keys)[keys] >= _FREQUENT
    return bool(frequent.mean() > _FREQUENT_SHARE)


def resolve_duplicates(
    keys: Rows,
    targets: Rows,
    splits: Rows,
    conflicts: str,
    accepted: NDArray[np.bool_] | None = None,
) -> NDArray[np.int8]:
    """Return which rows are dropped, and why, so that each key is left once, or once a target.

    All test rows of a source's own split stay, and all of its validation rows that equal none of
    them: metrics on them are compared with those of others. A target that a person accepted
    outranks the others, the last one if there are several. Of other equal rows the first stays.

    Args:
        keys: (rows,) equal for rows that count as the same.
        targets: (rows,) equal for rows with the same target.
        splits: (rows,) the source's own split, a number of OWN_SPLITS.
        conflicts: 'drop' (no row of a key with several targets stays), 'majority' (the target that
            most have; a tie drops all), 'keep' (the first row with each target) or 'keep_all'
            (each row).
        accepted: (rows,) whether a person accepted the target. None: nobody did.

    Returns:
        (rows,) STAYS, DUPLICATE or CONFLICTING.
    """
    if conflicts == "keep_all":
        return _without_leaks(keys, splits)
    order = np.argsort(keys, kind="stable")
    starts = _run_starts(keys[order])
    dedup_status = np.full(len(keys), DUPLICATE, np.int8)
    dedup_status[order[starts]] = STAYS
    lowest = np.minimum.reduceat(targets[order], starts)
    highest = np.maximum.reduceat(targets[order], starts)
    mixed = lowest != highest
    held_out = np.maximum.reduceat(splits[order], starts) >= _VALIDATION
    ends = np.append(starts[1:], len(keys))
    for group in np.flatnonzero(mixed | held_out):
        rows = order[starts[group] : ends[group]]
        chosen = np.zeros(0, np.int64) if accepted is None else np.flatnonzero(accepted[rows])
        if len(chosen) and splits[rows].max() < _VALIDATION:
            dedup_status[rows] = _resolve_by_person(targets[rows], int(chosen[-1]))
        else:
            dedup_status[rows] = _resolve_key(targets[rows], splits[rows], conflicts)
    return dedup_status


def _without_leaks(keys: Rows, splits: Rows) -> NDArray[np.int8]:
    """Return the status of rows that all stay, but those that equal a row of a later split.

    Args:
        keys: (rows,) equal for rows that count as the same.
        splits: (rows,) the source's own split, a number of OWN_SPLITS.
    """
    latest = np.zeros(keys.max() + 1, splits.dtype)
    np.maximum.at(latest, keys, splits)
    is_leak = (latest[keys] >= _VALIDATION) & (splits < latest[keys])
    return np.where(is_leak, DUPLICATE, STAYS).astype(np.int8)


def _run_starts(values: NDArray[Any]) -> Rows:
    """Return where runs of equal values begin in an array that is not empty."""
    changes = values[1:] != values[:-1]
    return np.flatnonzero(np.concatenate(([True], changes)))


def _resolve_by_person(targets: Rows, chosen: int) -> NDArray[np.int8]:
    """Return the status of the rows of one key, of which one has the target of a person.

    Args:
        targets: (rows of the key,) numbers of targets.
        chosen: position of the row that stays.
    """
    dedup_status = np.where(targets == targets[chosen], DUPLICATE, CONFLICTING).astype(np.int8)
    dedup_status[chosen] = STAYS
    return dedup_status


def _resolve_key(targets: Rows, splits: Rows, conflicts: str) -> NDArray[np.int8]:
    """Return the status of the rows of one key, in their order.

    Args:
        targets: (rows of the key,) numbers of targets.
        splits: (rows of the key,) numbers of OWN_SPLITS.
        conflicts: 'drop', 'majority' or 'keep'.
    """
    best = splits.max()
    if best >= _VALIDATION:
        return np.where(splits == best, STAYS, DUPLICATE).astype(np.int8)
    values, first, counts = np.unique(targets, return_index=True, return_counts=True)
    if conflicts == "keep":
        dedup_status = np.full(len(targets), DUPLICATE, np.int8)
        dedup_status[first] = STAYS
        return dedup_status
    tie = (counts == counts.max()).sum() > 1
    dedup_status = np.full(len(targets), CONFLICTING, np.int8)
    if conflicts == "majority" and not tie:
        majority = np.flatnonzero(targets == values[counts.argmax()])
        dedup_status[majority] = DUPLICATE
        dedup_status[majority[0]] = STAYS
    return dedup_status


class PairComparison(Protocol):
    """Comparison of pairs of rows by an input column."""

    def compare(self, column: str, pairs: Sequence[tuple[int, int]]) -> None:
        """Compare pairs. Many at once cost less than one after another."""

    def is_similar(self, column: str, one: int, other: int) -> bool | None:
        """Return whether two rows are similar; None: they were not compared."""


def lsh_pairs(
    signatures: Mapping[str, tuple[Rows, Bands]],
    comparison: PairComparison,
    clusters: UnionFind,
    folder: Path | None = None,
) -> int:
    """Join rows whose inputs are similar (locality-sensitive hashing, each pair confirmed).

    A row is compared with the rows before it, those with the most bands in common first. After
    several that are not similar the rest are not compared.

    Args:
        signatures: input column -> rows that have a signature (n,), ascending, and their bands
            (bands, n).
        comparison: of the rows. A pair that shares bands in several columns is compared by the
            first of them.
        clusters: of the rows.
        folder: for the pairs that wait for comparison. None: they are in memory.

    Returns:
        The number of confirmed pairs.
    """
    candidates: list[CandidatePairs] = []
    try:
        return _join_similar(signatures, comparison, clusters, candidates, folder)
    finally:
        for pairs in candidates:
            pairs.close()


def _join_similar(
    signatures: Mapping[str, tuple[Rows, Bands]],
    comparison: PairComparison,
    clusters: UnionFind,
    candidates: list[CandidatePairs],
    folder: Path | None,
) -> int:
    """Join similar rows (see `lsh_pairs`), and return the number of confirmed pairs.

    Args:
        signatures: by input column.
        comparison: of the rows.
        clusters: of the rows.
        candidates: gets the pairs of each column.
        folder: for the pairs. None: they are in memory.
    """
    confirmed = 0
    count = len(clusters.parent)
    for number, (name, (rows, bands)) in enumerate(signatures.items()):
        file = folder / f"pairs-{number}" if folder else None
        candidates.append(CandidatePairs(count, file))
        for band in bands:
            for one, other in _sharing(band):
                candidates[-1].add(rows[one], rows[other])
        for block in range(candidates[-1].blocks):
            pairs, shared = candidates[-1].of_block(block)
            for earlier_column in candidates[:-1]:
                seen, _ = earlier_column.of_block(block)
                is_fresh = ~np.isin(pairs, seen, assume_unique=True)
                pairs = pairs[is_fresh]
                shared = shared[is_fresh]
            partners = _ranked(pairs, shared, count)
            confirmed += _confirm(name, partners, comparison, clusters)
    return confirmed


class CandidatePairs:
    """Pairs of rows that share a band of one column, by blocks of their later rows.

    Only the pairs of a block are in memory at once.

    Args:
        count: number of all rows.
        file: beginning of the names of the files that hold the pairs. None: they are in memory.
    """

    def __init__(self, count: int, file: Path | None) -> None:
        self._count = count
        self._file = file
        self.blocks = -(-count // _ROWS_PER_BLOCK)
        self._in_memory: list[list[Rows]] = [[] for _ in range(self.blocks)]
        # Of a run that was killed.
        self.close()

    def add(self, earlier: Rows, later: Rows) -> None:
        """Add pairs that share a band.

        Args:
            earlier: (pairs,) rows.
            later: (pairs,) rows, each after its partner.
        """
        blocks = later // _ROWS_PER_BLOCK
        order = np.argsort(blocks, kind="stable")
        pairs = (earlier * self._count + later)[order]
        edges = np.searchsorted(blocks[order], np.arange(self.blocks + 1)).tolist()
        for block in distinct(blocks).tolist():
            part = pairs[edges[block] : edges[block + 1]]
            if self._file is None:
                self._in_memory[block].append(part)
            else:
                with self._path(self._file, block).open("ab") as stream:
                    # `tofile` says nothing when the disk is full.
                    stream.write(part.data)

    def of_block(self, block: int) -> tuple[Rows, Rows]:
        """Return the pairs of a block.

        Args:
            block: its number.

        Returns:
            (pairs,) `earlier * count + later`, ascending; (pairs,) how many bands each shares.
        """
        pairs = np.concatenate([np.empty(0, np.int64), *self._in_memory[block]])
        if self._file is not None and self._path(self._file, block).exists():
            pairs = np.fromfile(self._path(self._file, block), np.int64)
        pairs.sort()
        starts = _run_starts(pairs) if len(pairs) else pairs
        return pairs[starts], np.diff(np.append(starts, len(pairs)))

    def close(self) -> None:
        """Remove the files."""
        if self._file is not None:
            for block in range(self.blocks):
                self._path(self._file, block).unlink(missing_ok=True)

    @staticmethod
    def _path(file: Path, block: int) -> Path:
        return file.with_name(f"{file.name}-{block}.bin")


def _ranked(pairs: Rows, shared: Rows, count: int) -> list[tuple[int, int]]:
    """Return (later, earlier) rows: by the later one, its most promising partners first.

    Each row has at most `_MAX_PARTNERS`.

    Args:
        pairs: (pairs,) `earlier * count + later`.
        shared: (pairs,) number of bands that each pair shares.
        count: number of all rows.
    """
    earlier, later = np.divmod(pairs, count)
    order = np.lexsort((earlier, -shared, later))
    earlier = earlier[order]
    later = later[order]
    if not len(later):
        return []
    starts = _run_starts(later)
    sizes = np.diff(np.append(starts, len(later)))
    rank = np.arange(len(later)) - np.repeat(starts, sizes)
    chosen = rank < _MAX_PARTNERS
    return list(zip(later[chosen].tolist(), earlier[chosen].tolist(), strict=True))


def _confirm(
    name: str,
    pairs: Sequence[tuple[int, int]],
    comparison: PairComparison,
    clusters: UnionFind,
) -> int:
    """Join the pairs that are similar and not yet joined, and return their number.

    Args:
        name: of the input column.
        pairs: (later, earlier) rows, in the order of `_ranked`.
        comparison: of the rows.
        clusters: of the rows.
    """
    confirmed = 0
    current = -1
    failures = 0
    # Pairs before it were compared as far as that seemed necessary.
    window_end = 0
    for number, (later, earlier) in enumerate(pairs):
        if later != current:
            current = later
            failures = 0
        if failures >= _MAX_FAILURES or clusters.find(earlier) == clusters.find(later):
            continue
        is_similar = comparison.is_similar(name, earlier, later)
        if is_similar is None:
            window = _PAIRS_AT_ONCE if number >= window_end else _MAX_PARTNERS
            window_end = max(window_end, number + window)
            comparison.compare(name, _likely(pairs[number : number + window], clusters))
            is_similar = comparison.is_similar(name, earlier, later)
        if is_similar:
            clusters.join(earlier, later)
            confirmed += 1
        else:
            failures += 1
    return confirmed


def _likely(
    pairs: Sequence[tuple[int, int]],
    clusters: UnionFind,
) -> list[tuple[int, int]]:
    """Return the (earlier, later) pairs that are compared if none of them is similar.

    Args:
        pairs: (later, earlier) rows, in the order of `_ranked`.
        clusters: of the rows.
    """
    likely = []
    tried: Counter[int] = Counter()
    for later, earlier in pairs:
        if tried[later] < _MAX_FAILURES and clusters.find(earlier) != clusters.find(later):
            tried[later] += 1
            likely.append((earlier, later))
    return likely


def _sharing(band: NDArray[np.uint64]) -> Iterator[tuple[Rows, Rows]]:
    """Yield pairs of positions with equal values, as two arrays (pairs,).

    They are all pairs of a value, or if it has too many, neighbors.

    Args:
        band: (n,) values of one band.
    """
    ordered = np.sort(band)
    repeated = ordered[1:][ordered[1:] == ordered[:-1]]
    if not len(repeated):
        return
    # Most values occur once.
    is_repeated = pc.is_in(pa.array(band), value_set=pa.array(repeated))
    positions = np.flatnonzero(is_repeated.to_numpy(zero_copy_only=False))
    positions = positions[np.argsort(band[positions], kind="stable")]
    values = band[positions]
    edges = np.append(_run_starts(values), len(values))
    run_sizes = np.diff(edges)
    sizes = np.repeat(run_sizes, run_sizes)
    for distance in range(1, min(_MAX_PAIRWISE, len(values))):
        same = values[distance:] == values[:-distance]
        if distance > 1:
            same &= sizes[:-distance] <= _MAX_PAIRWISE
        matches = np.flatnonzero(same)
        if not len(matches):
            return
        yield positions[matches], positions[matches + distance]
