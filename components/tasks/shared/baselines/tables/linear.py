"""Fit linear models to tables: ridge regression and logistic regression, as plain arrays.

Numbers count twice, standardized and as logarithms, which straightens what grows by factors.
Each category is a column of zeros and ones.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Folds = Sequence[Ints]

# Standard deviations beyond which a number is clipped.
_FARTHEST = 5.0
# Most columns of the design. Beyond it logarithms, then columns with many categories, are left out.
_MOST_COLUMNS = 600
# Penalties of ridge regression that are tried.
_PENALTIES = np.logspace(-2, 4, 19)
# Inverse strengths of the penalty of logistic regression that are tried, from strong to weak.
_STRENGTHS = (0.03, 0.3, 3.0, 30.0)
# Most rows of logistic regression, drawn at random. More hardly change so few weights.
_MOST_LOGISTIC_ROWS = 5_000
# Rows of which the design is built at once.
_CHUNK = 20_000
# Logit of a class that no row had.
_NEVER = -20.0


@dataclass(frozen=True)
class Design:
    """Columns of a linear model, fitted on train rows.

    Args:
        fill: (p,) of numbers that are missing.
        unit: (p,) numbers of about this size lie where the logarithm bends.
        center: (d,) of numbers, then of their logarithms if they are used.
        scale: (d,) of the same columns.
        flagged: (m,) numbers of the columns that were missing in a train row.
        kept: (q',) numbers of the category columns that are used.
        sizes: (q',) number of categories of each of them.
    """

    fill: Floats
    unit: Floats
    center: Floats
    scale: Floats
    flagged: Ints
    kept: Ints
    sizes: Ints

    @classmethod
    def fit(cls, numbers: Floats, sizes: Sequence[int]) -> Design:
        """Return the design for train rows.

        Args:
            numbers: (n, p), NaN where one is missing.
            sizes: number of categories of each category column.
        """
        present = np.isfinite(numbers)
        count = np.maximum(present.sum(0), 1)
        filled = np.where(present, numbers, np.nan)
        with warnings.catch_warnings():
            # A column without a value.
            warnings.simplefilter("ignore", RuntimeWarning)
            fill = np.nan_to_num(np.nanmedian(filled, axis=0))
            unit = np.nan_to_num(np.nanmedian(np.abs(filled), axis=0))
        mean_size = np.where(present, np.abs(numbers), 0).sum(0) / count
        unit = np.where(unit > 0, unit, mean_size)
        unit = np.where(unit > 0, unit, 1.0) / 10
        flagged = np.flatnonzero(~present.all(0))
        width = numbers.shape[1] + len(flagged)
        with_logarithms = width + numbers.shape[1] <= _MOST_COLUMNS
        kept = []
        width += numbers.shape[1] * with_logarithms
        for column in np.argsort(sizes, kind="stable"):
            width += sizes[column]
            if width > _MOST_COLUMNS:
                break
            kept.append(int(column))
        kept.sort()
        size = numbers.shape[1] * (1 + with_logarithms)
        draft = cls(
            fill,
            unit,
            np.zeros(size),
            np.ones(size),
            flagged.astype(np.int64),
            np.array(kept, np.int64),
            np.array([sizes[column] for column in kept], np.int64),
        )
        raw = draft._numbers(numbers, clip=False)
        scale = raw.std(0)
        scale = np.where(scale > 1e-9 * np.abs(raw).max(0, initial=0), scale, 1.0)
        return cls(**{**vars(draft), "center": raw.mean(0), "scale": scale})

    @property
    def width(self) -> int:
        """Return the number of columns."""
        return len(self.center) + len(self.flagged) + int(self.sizes.sum())

    def _numbers(self, numbers: Floats, clip: bool = True) -> Floats:
        """Return standardized numbers and their logarithms (n, d).

        Args:
            numbers: (n, p), NaN where one is missing.
            clip: whether values far from the center are clipped.
        """
        filled = np.where(np.isfinite(numbers), numbers, self.fill)
        if len(self.center) > len(self.fill):
            logarithms = np.copysign(np.log1p(np.abs(filled) / self.unit), filled)
            filled = np.concatenate([filled, logarithms], axis=1)
        standardized = (filled - self.center) / self.scale
        return standardized.clip(-_FARTHEST, _FARTHEST) if clip else standardized

    def columns(self, numbers: Floats, categories: Ints) -> Floats:
        """Return the columns (n, width) of rows.

        Args:
            numbers: (n, p), NaN where one is missing.
            categories: (n, q) indices.
        """
        parts = [self._numbers(numbers), ~np.isfinite(numbers[:, self.flagged])]
        for column, size in zip(self.kept, self.sizes, strict=True):
            parts.append(categories[:, [column]] == np.arange(size))
        return np.hstack(parts).astype(np.float64)

    def dot(self, numbers: Floats, categories: Ints, weights: Floats) -> Floats:
        """Return the product (n, c) of the columns of rows and weights, without the zeros.

        The product of a row has the same bits whatever the other rows are.

        Args:
            numbers: (n, p), NaN where one is missing.
            categories: (n, q) indices.
            weights: (width, c).
        """
        columns = self._numbers(numbers)
        if len(self.flagged):
            missing = ~np.isfinite(numbers[:, self.flagged])
            columns = np.concatenate([columns, missing], axis=1)
        first = columns.shape[1]
        # One product for each row: BLAS adds the columns of many rows in another order.
        total = np.matmul(columns[:, None], weights[:first])[:, 0]
        index = categories[:, self.kept]
        # A client may send an index that the train rows did not have. It has the row of zeros.
        known = (index >= 0) & (index < self.sizes)
        offsets = first + np.cumsum(self.sizes) - self.sizes
        rows = np.where(known, index + offsets, len(weights))
        extended = np.concatenate([weights, np.zeros((1, weights.shape[1]))])
        for column in rows.T:
            total += extended[column]
        return np.asarray(total)


@dataclass(frozen=True)
class LinearScores:
    """Scores that are linear in the columns of a design.

    Args:
        design: of the columns.
        weights: (width, c).
        intercept: (c,).
    """

    design: Design
    weights: Floats
    intercept: Floats

    def scores(self, numbers: Floats, categories: Ints) -> Floats:
        """Return the scores (n, c) of rows.

        Args:
            numbers: (n, p), NaN where one is missing.
            categories: (n, q) indices.
        """
        return self.design.dot(numbers, categories, self.weights) + self.intercept

    def scaled(self, factor: float) -> LinearScores:
        """Return the model with its scores multiplied by a factor."""
        return LinearScores(self.design, self.weights * factor, self.intercept * factor)

    @classmethod
    def side_by_side(cls, models: Sequence[LinearScores]) -> LinearScores:
        """Return one model with the scores of several, in their order.

        Args:
            models: at least one; all have one design.

        Raises:
            ValueError: the designs differ.
        """
        design = models[0].design
        for name in Design.__dataclass_fields__:
            expected = getattr(design, name)
            for model in models[1:]:
                if not np.array_equal(getattr(model.design, name), expected):
                    raise ValueError(f"two linear models differ in their array {name}")
        weights = np.hstack([model.weights for model in models])
        return cls(design, weights, np.concatenate([model.intercept for model in models]))

    def arrays(self, prefix: str) -> dict[str, NDArray[Any]]:
        """Return the arrays by name, for a bundle.

        Args:
            prefix: of the names.
        """
        values = {**vars(self.design), "weights": self.weights, "intercept": self.intercept}
        return {prefix + name: array for name, array in values.items()}

    @classmethod
    def from_arrays(
        cls,
        arrays: Mapping[str, NDArray[Any]],
        prefix: str,
        numbers: int,
        categories: int,
    ) -> LinearScores:
        """Return the model in the arrays of a bundle.

        Args:
            arrays: name -> array.
            prefix: of the names.
            numbers: of columns of numbers of a row.
            categories: of category columns of a row.

        Raises:
            ValueError: an array is missing, or does not fit the others.
        """
        found = {}
        for name in (*Design.__dataclass_fields__, "weights", "intercept"):
            values = arrays.get(prefix + name)
            kind = np.int64 if name in ("flagged", "kept", "sizes") else np.float64
            dimensions = 2 if name == "weights" else 1
            if values is None or values.dtype != kind or values.ndim != dimensions:
                raise ValueError(f"there is no usable array {prefix + name}")
            if not np.isfinite(values).all():
                raise ValueError(f"a number of {prefix + name} is not finite")
            found[name] = values
        weights = found.pop("weights")
        intercept = found.pop("intercept")
        model = cls(Design(**found), weights, intercept)
        if not model._fits(numbers, categories):
            raise ValueError(f"the arrays {prefix}* do not fit each other")
        return model

    def _fits(self, numbers: int, categories: int) -> bool:
        """Return whether the arrays fit each other and rows of these columns."""
        design = self.design
        sizes_fit = not len(design.sizes) or 1 <= design.sizes.min() <= design.sizes.max() < 2**31
        return bool(
            len(design.fill) == len(design.unit) == numbers
            and len(design.center) == len(design.scale)
            and len(design.center) in (numbers, 2 * numbers)
            and (design.unit > 0).all()
            and (design.scale > 0).all()
            and _in_range(design.flagged, numbers)
            and _in_range(design.kept, categories)
            and len(design.kept) == len(design.sizes)
            and sizes_fit
            and self.weights.shape == (design.width, len(self.intercept))
        )


def _in_range(indices: Ints, size: int) -> bool:
    """Return whether indices of columns ascend and exist."""
    ascend = (np.diff(indices) > 0).all()
    return bool(not len(indices) or (ascend and indices[0] >= 0 and indices[-1] < size))


def _chunks(rows: int) -> Iterator[slice]:
    """Yield slices of at most _CHUNK rows."""
    for start in range(0, rows, _CHUNK):
        yield slice(start, min(start + _CHUNK, rows))


def fit_ridge(
    numbers: Floats,
    categories: Ints,
    sizes: Sequence[int],
    target: Floats,
    folds: Folds,
) -> tuple[LinearScores, Floats]:
    """Fit ridge regression with the penalty that is best on the folds.

    A fold's sums of products are subtracted from the sums of all, so that a row is read once.

    Args:
        numbers: (n, p), NaN where one is missing.
        categories: (n, q) indices.
        sizes: number of categories of each category column.
        target: (n,).
        folds: numbers of the rows of each; each row is in one of them.

    Returns:
        The model, fitted to all rows; (n,) answers of models that did not learn from the row.
    """
    design = Design.fit(numbers, sizes)
    sums = []
    for rows in folds:
        fold_sums = np.zeros((design.width + 2, design.width + 2))
        for part in _chunks(len(rows)):
            chunk = rows[part]
            columns = design.columns(numbers[chunk], categories[chunk])
            joined = np.column_stack([columns, np.ones(len(chunk)), target[chunk]])
            fold_sums += joined.T @ joined
        sums.append(fold_sums)
    total = np.sum(sums, axis=0)
    answers = np.zeros((len(target), len(_PENALTIES)))
    for rows, fold_sums in zip(folds, sums, strict=True):
        weights, intercept = _ridge_path(total - fold_sums)
        for part in _chunks(len(rows)):
            chunk = rows[part]
            answers[chunk] = design.dot(numbers[chunk], categories[chunk], weights) + intercept
    # No answer lies far outside of what the train rows had.
    answers = answers.clip(target.min(), target.max())
    best = int(((answers - target[:, None]) ** 2).mean(0).argmin())
    weights, intercept = _ridge_path(total)
    model = LinearScores(design, weights[:, [best]], intercept[[best]])
    return model, answers[:, best]


def _ridge_path(sums: Floats) -> tuple[Floats, Floats]:
    """Return the weights (width, penalties) and intercepts (penalties,) of all penalties.

    Args:
        sums: of products of the columns, of 1 and of the target.
    """
    width = len(sums) - 2
    count = max(sums[width, width], 1.0)
    mean = sums[:, width] / count
    centered = sums / count - np.outer(mean, mean)
    variances, axes = np.linalg.eigh(centered[:width, :width])
    variances = variances.clip(0)
    along = axes.T @ centered[:width, -1]
    shrunk = along[:, None] / (variances[:, None] + _PENALTIES / count)
    weights = axes @ shrunk
    return weights, mean[-1] - mean[:width] @ weights


def fit_logistic(
    numbers: Floats,
    categories: Ints,
    sizes: Sequence[int],
    target: Ints,
    folds: Folds,
) -> tuple[LinearScores, Floats]:
    """Fit logistic regression with the penalty that is best on the folds.

    Args:
        numbers: (n, p), NaN where one is missing.
        categories: (n, q) indices.
        sizes: number of categories of each category column.
        target: (n,) class indices; each of 0 to c - 1 occurs.
        folds: numbers of the rows of each; each row is in one of them.

    Returns:
        The model, fitted to all rows; (n, c) scores of models that did not learn from the row.
    """
    design = Design.fit(numbers, sizes)
    classes = int(target.max()) + 1
    every = np.arange(len(target))
    best_loss = np.inf
    best_strength = _STRENGTHS[0]
    best_scores = np.zeros((len(target), classes))

    def fitted(rows: Ints, strength: float) -> LinearScores:
        """Return the model of some rows."""
        # Evenly spaced, which for rows in a random order is a random draw.
        rows = rows[:: -(-len(rows) // _MOST_LOGISTIC_ROWS)]
        columns = design.columns(numbers[rows], categories[rows])
        return _logistic(design, columns, target[rows], strength, classes)

    for strength in _STRENGTHS:
        scores = np.zeros((len(target), classes))
        for rows in folds:
            model = fitted(np.setdiff1d(every, rows), strength)
            for part in _chunks(len(rows)):
                chunk = rows[part]
                scores[chunk] = model.scores(numbers[chunk], categories[chunk])
        loss = cross_entropy(scores, target)
        # The loss falls to one minimum. After it nothing better follows.
        if loss > best_loss:
            break
        best_loss = loss
        best_strength = strength
        best_scores = scores
    return fitted(every, best_strength), best_scores


def _logistic(
    design: Design,
    columns: Floats,
    target: Ints,
    strength: float,
    classes: int,
) -> LinearScores:
    """Return logistic regression of some rows.

    Args:
        design: of the columns.
        columns: (n, width).
        target: (n,) class indices.
        strength: inverse of the penalty's.
        classes: their number c.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    weights = np.zeros((classes, columns.shape[1]))
    intercept = np.full(classes, _NEVER)
    present = np.unique(target)
    if len(present) == 1:
        intercept[present] = 0.0
        return LinearScores(design, weights.T, intercept)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = LogisticRegression(C=strength, max_iter=200, tol=1e-3).fit(columns, target)
    rows = model.coef_
    offsets = model.intercept_
    if len(rows) == 1:
        rows = np.vstack([-rows / 2, rows / 2])
        offsets = np.concatenate([-offsets / 2, offsets / 2])
    weights[present] = rows
    intercept[present] = offsets
    return LinearScores(design, weights.T, intercept)


def log_shares(scores: Floats) -> Floats:
    """Return the logarithms of the probabilities (n, c) of scores (n, c)."""
    shifted = scores - scores.max(1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(1, keepdims=True)))


def cross_entropy(scores: Floats, target: Ints) -> float:
    """Return the mean loss in nats.

    Args:
        scores: (n, c) logits.
        target: (n,) class indices.
    """
    return -float(log_shares(scores)[np.arange(len(target)), target].mean())
