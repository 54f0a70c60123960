"""Divide the train rows of a table into folds: at random, by group, or in blocks of time."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from components.tasks.shared.baselines.tables.linear import Floats, Folds, Ints


def make_folds(
    rows: int,
    count: int,
    seed: int,
    strata: Ints | None = None,
) -> list[Ints]:
    """Return the numbers of the rows of each fold.

    Args:
        rows: their number.
        count: number of folds.
        seed: of the draw.
        strata: (n,) class indices, of which each fold gets like shares.
    """
    order = np.random.default_rng(seed).permutation(rows)
    if strata is not None:
        order = order[np.argsort(strata[order], kind="stable")]
    return [np.sort(order[start::count]) for start in range(count)]


def group_folds(
    groups: Ints,
    count: int,
    seed: int,
    strata: Ints | None = None,
) -> list[Ints]:
    """Return the numbers of the rows of each fold; rows of one group are in one fold.

    The largest groups are placed first, each in the fold with the least of what it brings.

    Args:
        groups: (n,) numbers of groups, from 0.
        count: most folds; there are no more than groups.
        seed: of the order of groups of one size.
        strata: (n,) class indices, of which each fold gets like shares.
    """
    kinds = np.zeros(len(groups), np.int64)
    if strata is not None:
        kinds = strata
    counts = np.zeros((groups.max() + 1, kinds.max() + 1))
    np.add.at(counts, (groups, kinds), 1)
    shares = counts / np.maximum(counts.sum(0), 1)
    sizes = counts.sum(1)
    order = np.random.default_rng(seed).permutation(len(sizes))
    order = order[np.argsort(-sizes[order], kind="stable")]
    loads = np.zeros((count, shares.shape[1]))
    rows = np.zeros(count)
    fold_of = np.zeros(len(sizes), np.int64)
    for group in order:
        # Of folds with as little of its classes, the one with the fewest rows.
        fold = np.lexsort((rows, loads @ shares[group]))[0]
        loads[fold] += shares[group]
        rows[fold] += sizes[group]
        fold_of[group] = fold
    return _rows_of(fold_of[groups])


def time_folds(moments: Floats, count: int, groups: Ints | None = None) -> list[Ints]:
    """Return the numbers of the rows of each block of time, the latest block first.

    Rows of one moment are in one block. A group counts with its latest row.

    Args:
        moments: (n,) in seconds; NaN counts as the oldest.
        count: most blocks; there are no more than moments.
        groups: (n,) numbers of groups, from 0.
    """
    times = np.nan_to_num(moments, nan=-np.inf)
    if groups is not None:
        latest = np.full(groups.max() + 1, -np.inf)
        np.maximum.at(latest, groups, times)
        times = latest[groups]
    _, moment_of, counts = np.unique(times, return_inverse=True, return_counts=True)
    # Of the rows of a moment, those in the middle decide.
    middle = counts.cumsum() - (counts + 1) / 2
    block = (middle * count / len(times)).astype(np.int64)
    return _rows_of(count - 1 - block[moment_of])


def _rows_of(fold_of: NDArray[np.int64]) -> list[Ints]:
    """Return the numbers of the rows of each fold that has any."""
    return [np.flatnonzero(fold_of == fold) for fold in np.unique(fold_of)]


def choose_folds(
    rows: int,
    count: int,
    seed: int,
    *,
    strata: Ints | None = None,
    groups: Ints | None = None,
    moments: Floats | None = None,
) -> Folds:
    """Return the folds that fit the split of the table: by time, by group, or at random.

    Where all rows have one time or one group, the next kind of folds is used.

    Args:
        rows: their number.
        count: most folds.
        seed: of the draw.
        strata: (n,) class indices, of which folds get like shares where they are not of time.
        groups: (n,) numbers of groups, from 0; None: the source names none.
        moments: (n,) in seconds; None: rows are not split by time.
    """
    folds: list[Ints] = []
    if moments is not None:
        folds = time_folds(moments, count, groups)
    if len(folds) < 2 and groups is not None:
        folds = group_folds(groups, count, seed, strata)
    if len(folds) < 2:
        folds = make_folds(rows, count, seed, strata)
    return folds
