"""Encode categories of a table by the mean target of their train rows.

Means are shrunk towards the mean of all rows (Micci-Barreca 2001), by the variances within and
between categories. A train row has the means of the folds that it is not in, so that its own
target is in none of its numbers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from components.tasks.shared.baselines.tables.linear import Floats, Folds, Ints

_PREFIX = "target_means."


@dataclass(frozen=True)
class TargetMeans:
    """The mean targets of categories.

    Args:
        columns: (e,) numbers of the encoded category columns, ascending.
        sizes: (e,) number of categories of each of them.
        values: (sum of sizes, outputs) means of the categories of all columns.
    """

    columns: Ints
    sizes: Ints
    values: Floats

    @property
    def width(self) -> int:
        """Return the number of numbers that a row gets."""
        return len(self.columns) * int(self.values.shape[1])

    def extended(self, numbers: Floats, categories: Ints) -> Floats:
        """Return the numbers (n, p + width) of rows: theirs, then the means of their categories.

        Args:
            numbers: (n, p).
            categories: (n, q) indices. One that train did not have counts as index 0.
        """
        parts = [numbers]
        start = 0
        for column, size in zip(self.columns, self.sizes, strict=True):
            index = categories[:, column]
            known = np.where((index >= 0) & (index < size), index, 0)
            parts.append(self.values[start + known])
            start += size
        return np.hstack(parts)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return the arrays by name, for a bundle."""
        return {_PREFIX + name: values for name, values in vars(self).items()}


def fit_target_means(
    categories: Ints,
    sizes: Sequence[int],
    targets: Floats,
    folds: Folds,
    least: int,
) -> tuple[TargetMeans, Floats]:
    """Fit the means of columns with many categories.

    Args:
        categories: (n, q) indices of train rows.
        sizes: (q,) number of categories of each column.
        targets: (n, outputs).
        folds: numbers of the rows of each; each row is in one of them.
        least: number of categories from which a column is encoded.

    Returns:
        The means of all train rows; (n, width) numbers of the train rows, each from other folds.
    """
    columns = np.array([column for column, size in enumerate(sizes) if size >= least], np.int64)
    encoded_sizes = np.array([sizes[column] for column in columns], np.int64)
    nothing = np.zeros((len(targets), 0))
    every = np.arange(len(targets))

    def fitted(rows: Ints) -> TargetMeans:
        """Return the means of some rows."""
        values = [np.zeros((0, targets.shape[1]))]
        for column, size in zip(columns, encoded_sizes, strict=True):
            values.append(_shrunk_means(categories[rows, column], int(size), targets[rows]))
        return TargetMeans(columns, encoded_sizes, np.vstack(values))

    whole = fitted(every)
    crossed = np.zeros((len(targets), whole.width))
    for rows in folds:
        others = fitted(np.setdiff1d(every, rows))
        crossed[rows] = others.extended(nothing[rows], categories[rows])
    return whole, crossed


def _shrunk_means(index: Ints, size: int, targets: Floats) -> Floats:
    """Return the means (size, outputs) of categories. One without a row has the mean of all.

    Args:
        index: (n,) category of each row.
        size: number of categories.
        targets: (n, outputs).
    """
    counts = np.bincount(index, minlength=size)[:, None]
    means = np.zeros((size, targets.shape[1]))
    np.add.at(means, index, targets)
    means /= np.maximum(counts, 1)
    overall = targets.mean(0)
    freedom = max(len(targets) - np.count_nonzero(counts), 1)
    within = np.square(targets - means[index]).sum(0) / freedom
    between = np.maximum(targets.var(0) - within, 1e-12)
    # A category of so many rows counts as much as the mean of all.
    prior_rows = within / between
    weights = counts / (counts + prior_rows + 1e-12)
    return np.asarray(overall + weights * (means - overall))


def target_means_of(arrays: Mapping[str, NDArray[Any]], categories: int) -> TargetMeans | None:
    """Return the means in the arrays of a bundle; None where it has none.

    Args:
        arrays: name -> array.
        categories: number of category columns of a row.

    Raises:
        ValueError: an array is missing, or does not fit the others.
    """
    if _PREFIX + "columns" not in arrays:
        return None
    columns = _checked(arrays, "columns", np.int64, 1)
    sizes = _checked(arrays, "sizes", np.int64, 1)
    values = _checked(arrays, "values", np.float64, 2)
    ascend = bool((np.diff(columns) > 0).all())
    in_range = not len(columns) or (columns[0] >= 0 and columns[-1] < categories)
    sizes_fit = not len(sizes) or 1 <= sizes.min() <= sizes.max() < 2**31
    rows_fit = len(sizes) == len(columns) and int(sizes.sum()) == len(values)
    if not (ascend and in_range and sizes_fit and rows_fit and np.isfinite(values).all()):
        raise ValueError(f"the arrays {_PREFIX}* do not fit each other")
    return TargetMeans(columns, sizes, values)


def _checked(
    arrays: Mapping[str, NDArray[Any]], name: str, kind: type[np.generic], dimensions: int
) -> NDArray[Any]:
    """Return an array of a kind.

    Raises:
        ValueError: it is missing, or of another kind.
    """
    array = arrays.get(_PREFIX + name)
    if array is None or array.dtype != kind or array.ndim != dimensions:
        raise ValueError(f"there is no usable array {_PREFIX + name}")
    return array
