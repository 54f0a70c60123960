"""Blend boosted trees and linear models of a table, for numbers and for classes.

Each model answers train rows that it did not learn from. These answers weigh the models. Scores
of trees add up, so that one model of LightGBM holds them all with their weights in the leaves.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from components.tasks.shared.baselines.tables.blending import logit_weights, mean_weights
from components.tasks.shared.baselines.tables.boosting import (
    VARIANTS,
    BoostingProblem,
    boost,
    default_learning_rate,
    feature_matrix,
)
from components.tasks.shared.baselines.tables.linear import (
    Floats,
    Folds,
    Ints,
    LinearScores,
    fit_logistic,
    fit_ridge,
)
from components.tasks.shared.baselines.tables.row_folds import choose_folds
from components.tasks.shared.baselines.tables.target_encoding import (
    TargetMeans,
    fit_target_means,
    target_means_of,
)
from components.tasks.shared.baselines.tables.trees import Trees, joined_trees

# Rows beyond which one fold is left out of the trees, once, instead of each in turn.
MANY_ROWS = 100_000
# Targets whose largest value is this many times the median are learned as logarithms too.
_LEAST_RATIO = 1.5
# What is added to a target before its logarithm, in medians.
_SHIFT = 0.05
PLAIN_VARIANTS = ("standard", "wide", "small", "random", "on_linear")
LOG_VARIANTS = ("standard", "small", "on_linear")
# Rows beyond which fewer models answer numbers as well. On diamonds the RMSE on validation was
# 536.8 with these at 2,478 rows/s, and 540.6 with all variants and five folds at 266 rows/s.
LARGE_ROWS = 20_000
LARGE_FOLDS = 3
LARGE_PLAIN_VARIANTS = ("wide", "random")
LARGE_LOG_VARIANTS = ("standard", "on_linear")
CLASS_VARIANTS = ("standard", "wide", "small", "random", "on_linear")
# Rows beyond which small and random trees hardly had a weight for classes, at much cost.
FEW_ROWS = 5_000
MANY_CLASS_VARIANTS = ("standard", "wide", "on_linear")
# Classes up to which each has a mean target of its own in each category.
_MOST_ENCODED_CLASSES = 10
# Logit of a class without a train row, below that of others.
_NEVER = -20.0
# Rounds of many classes.
_LEAST_ROUNDS = 100
_HEAD = "numbers", "categories", "outputs"

ScoreRows = Callable[[Floats, Ints], Floats]


@dataclass(frozen=True)
class EnsembleConfig:
    """Limits of an ensemble.

    Args:
        folds: parts of the train rows.
        trees: most rounds of a model.
        learning_rate: of boosting; None: by the number of rows.
        leaves: most leaves of a tree; None: 12 to 63.
        seed: of every random choice.
        target_encoding: categories from which a column has mean targets too; None: no column.
    """

    folds: int = 5
    trees: int = 1000
    learning_rate: float | None = None
    leaves: int | None = None
    seed: int = 0
    target_encoding: int | None = None


@dataclass(frozen=True)
class TableRows:
    """Train rows of a table.

    Args:
        numbers: (n, p), NaN where one is missing.
        categories: (n, q) indices, 0 for a missing or unknown one.
        sizes: (q,) number of indices of each category column.
        groups: (n,) numbers of groups, from 0, whose rows are in one fold; None: each for itself.
        moments: (n,) in seconds, if folds are blocks of time; NaN where there is none.
    """

    numbers: Floats
    categories: Ints
    sizes: Sequence[int]
    groups: Ints | None = None
    moments: Floats | None = None

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.numbers)

    def folds(self, count: int, seed: int, strata: Ints | None = None) -> Folds:
        """Return the folds of the rows.

        Args:
            count: most folds.
            seed: of the draw.
            strata: (n,) class indices.
        """
        return choose_folds(
            len(self),
            count,
            seed,
            strata=strata,
            groups=self.groups,
            moments=self.moments,
        )


@dataclass(frozen=True)
class AdditiveScores:
    """Scores (n, c) that are the sum of a linear model and of trees.

    Args:
        linear: the linear model.
        trees: trees over numbers, then categories.
    """

    linear: LinearScores
    trees: Trees

    def arrays(self, prefix: str) -> dict[str, NDArray[Any]]:
        """Return the arrays by name, for a bundle.

        Args:
            prefix: of the names.
        """
        return {
            **self.linear.arrays(f"{prefix}.linear."),
            **self.trees.arrays(f"{prefix}.trees."),
        }

    @classmethod
    def from_arrays(
        cls, arrays: Mapping[str, NDArray[Any]], prefix: str, numbers: int, categories: int
    ) -> AdditiveScores:
        """Return the model in the arrays of a bundle.

        Args:
            arrays: name -> array.
            prefix: of the names.
            numbers: of columns of numbers of a row.
            categories: of category columns of a row.

        Raises:
            ValueError: the arrays are broken.
        """
        linear = LinearScores.from_arrays(arrays, f"{prefix}.linear.", numbers, categories)
        return cls(linear, Trees.from_arrays(arrays, f"{prefix}.trees."))

    def check_columns(self, numbers: int, sizes: Sequence[int]) -> None:
        """Refuse columns of other kinds or sizes than those of the model.

        Args:
            numbers: of columns of numbers of a row.
            sizes: (q,) number of indices of each category column of a row.

        Raises:
            ValueError: it says which differ.
        """
        design = self.linear.design
        if [sizes[column] for column in design.kept] != design.sizes.tolist():
            raise ValueError("the columns have other numbers of categories than the arrays")
        if (self.trees.by_category != (self.trees.feature >= numbers)).any():
            raise ValueError("a split by a number is at a column of categories, or the reverse")


def joint_scorer(
    models: Sequence[AdditiveScores], features: int, outputs: int
) -> Callable[[Floats, Ints], list[Floats]]:
    """Return a function from numbers (n, p) and categories (n, q) to scores of each model.

    Args:
        models: their linear models have one design, whose columns are computed once for all.
        features: p + q.
        outputs: number of scores of each model.

    Raises:
        ValueError: the arrays are broken.
    """
    for model in models:
        if len(model.linear.intercept) != outputs:
            raise ValueError("the linear model and the trees differ in their number of scores")
    linear = LinearScores.side_by_side([model.linear for model in models])
    trees = [model.trees.scorer(features, outputs) for model in models]

    def score(values: Floats, indices: Ints) -> list[Floats]:
        """Return scores (n, outputs) of each model."""
        straight = linear.scores(values, indices)
        matrix = feature_matrix(values, indices)
        scores = []
        for number, score_trees in enumerate(trees):
            first = number * outputs
            scores.append(straight[:, first : first + outputs] + score_trees(matrix))
        return scores

    return score


def _blended(
    linear: LinearScores,
    trees: Mapping[str, Trees],
    weights: Floats,
) -> AdditiveScores:
    """Return the weighted sum of a linear model and models of trees.

    Args:
        linear: has the first weight, and that of the variants that add to it.
        trees: models by the names of their variants.
        weights: (1 + number of models,).
    """
    linear_weight = weights[0]
    parts = []
    for (name, model), weight in zip(trees.items(), weights[1:], strict=True):
        if weight > 0:
            parts.append(model.scaled(float(weight)))
        if VARIANTS[name].on_linear:
            linear_weight += weight
    return AdditiveScores(linear.scaled(float(linear_weight)), joined_trees(parts))


@dataclass(frozen=True)
class _Candidates:
    """Models of one problem, and their answers to rows from which they did not learn.

    Args:
        linear: fitted to all rows.
        trees: name of a variant -> trees.
        scores: (1 + number of variants, n, outputs), of the linear model first.
    """

    linear: LinearScores
    trees: Mapping[str, Trees]
    scores: Floats


def _candidates(
    problem: BoostingProblem,
    linear: LinearScores,
    linear_scores: Floats,
    variants: Sequence[str],
) -> _Candidates:
    """Return a linear model and boosted variants.

    Args:
        problem: of the trees.
        linear: fitted to all rows.
        linear_scores: (n, outputs) of linear models that did not learn from the row.
        variants: names.
    """
    trees = {}
    scores = [linear_scores]
    for number, name in enumerate(variants):
        variant = VARIANTS[name]
        seeded = replace(problem, seed=problem.seed + number)
        offset = linear_scores if variant.on_linear else None
        trees[name], answers = boost(seeded, variant, offset)
        scores.append(answers + linear_scores if variant.on_linear else answers)
    return _Candidates(linear, trees, np.stack(scores))


def _problem(
    rows: TableRows, target: NDArray[Any], folds: Folds, config: EnsembleConfig
) -> BoostingProblem:
    """Return the problem of regression.

    Args:
        rows: train rows.
        target: (n,).
        folds: numbers of the rows left out of each model.
        config: limits.
    """
    rate = config.learning_rate or default_learning_rate(len(rows))
    return BoostingProblem(
        features=feature_matrix(rows.numbers, rows.categories),
        numbers=rows.numbers.shape[1],
        target=target,
        outputs=1,
        objective="regression",
        folds=folds,
        rounds=config.trees,
        learning_rate=rate,
        leaves=config.leaves,
        seed=config.seed,
    )


def _tree_folds(folds: Folds, rows: int) -> Folds:
    """Return the folds that are left out of trees: one of many rows, each of few.

    The first one is the latest block, if folds are blocks of time.
    """
    return folds[:1] if rows > MANY_ROWS else folds


def _with_target_means(
    rows: TableRows, targets: Floats, folds: Folds, config: EnsembleConfig
) -> tuple[TableRows, dict[str, NDArray[Any]]]:
    """Return train rows with the mean targets of their categories, and the means for a bundle.

    Args:
        rows: train rows.
        targets: (n, outputs).
        folds: of all rows.
        config: limits.
    """
    if config.target_encoding is None:
        return rows, {}
    means, crossed = fit_target_means(
        rows.categories, rows.sizes, targets, folds, config.target_encoding
    )
    if not means.width:
        return rows, {}
    return replace(rows, numbers=np.hstack([rows.numbers, crossed])), means.arrays()


def fit_regression(
    rows: TableRows,
    target: Floats,
    config: EnsembleConfig,
    center: float,
    scale: float,
) -> dict[str, NDArray[Any]]:
    """Fit the ensemble that answers numbers.

    Args:
        rows: train rows.
        target: (n,) as in the source.
        config: limits.
        center: answers are (value - center) / scale.
        scale: positive.

    Returns:
        The arrays of the bundle.
    """
    standardized = (target - center) / scale
    count, plain_variants, log_variants = _plan(len(rows), config)
    folds = rows.folds(count, config.seed)
    shape = (rows.numbers.shape[1], rows.categories.shape[1], 1)
    rows, means = _with_target_means(rows, standardized[:, None], folds, config)
    plain = _fit_numbers(rows, standardized, folds, config, plain_variants)
    judged = np.concatenate(list(_tree_folds(folds, len(rows))))
    answers = plain.scores[:, :, 0]
    shift = _log_shift(target)
    arrays = {}
    log_weight = 0.0
    if shift is not None:
        logs = np.log(target + shift)
        log_center = float(logs.mean())
        log_scale = float(logs.std())
        logs = (logs - log_center) / log_scale
        candidates = _fit_numbers(rows, logs, folds, config, log_variants)
        weights = mean_weights(candidates.scores[:, judged, 0].T, logs[judged])
        blend = np.tensordot(weights, candidates.scores[:, :, 0], 1)
        settings = np.array([log_center, log_scale, shift, center, scale, logs.min(), logs.max()])
        answers = np.vstack([answers, _from_logs(blend, settings)])
        model = _blended(candidates.linear, candidates.trees, weights)
        arrays = {**model.arrays("log"), "log.settings": settings}
    weights = mean_weights(answers[:, judged].T, standardized[judged])
    if shift is not None:
        log_weight = float(weights[-1])
        weights = weights[:-1]
    if not log_weight:
        arrays = {}
    model = _blended(plain.linear, plain.trees, weights)
    return {
        **dict(zip(_HEAD, map(np.array, shape), strict=True)),
        **means,
        **model.arrays("plain"),
        **arrays,
        "log_weight": np.array([log_weight]),
        "bounds": np.array([standardized.min(), standardized.max()]),
    }


def _plan(rows: int, config: EnsembleConfig) -> tuple[int, Sequence[str], Sequence[str]]:
    """Return the number of folds, and the variants for the target and for its logarithm.

    Args:
        rows: of train.
        config: limits.
    """
    if rows > LARGE_ROWS:
        return min(config.folds, LARGE_FOLDS), LARGE_PLAIN_VARIANTS, LARGE_LOG_VARIANTS
    return min(config.folds, rows), PLAIN_VARIANTS, LOG_VARIANTS


def _log_shift(target: Floats) -> float | None:
    """Return what to add to a target before its logarithm; None: it is not learned so.

    Args:
        target: (n,).
    """
    median = float(np.median(target))
    if target.min() < 0 or median <= 0 or target.max() < _LEAST_RATIO * median:
        return None
    return _SHIFT * median


def _from_logs(scores: Floats, settings: Floats) -> Floats:
    """Return standardized answers of standardized logarithms.

    Args:
        scores: of any shape.
        settings: center and scale of the logarithms, what was added to the target, center and
            scale of the target, and the least and largest score of a train row.
    """
    log_center, log_scale, shift, center, scale, least, largest = settings.tolist()
    # Beyond the train rows a logarithm would explode.
    bounded = scores.clip(least - 0.5, largest + 0.5)
    return np.asarray((np.exp(bounded * log_scale + log_center) - shift - center) / scale)


def _fit_numbers(
    rows: TableRows,
    target: Floats,
    folds: Folds,
    config: EnsembleConfig,
    variants: Sequence[str],
) -> _Candidates:
    """Return models of a standardized number.

    Args:
        rows: train rows.
        target: (n,).
        folds: of all rows.
        config: limits.
        variants: names.
    """
    linear, scores = fit_ridge(rows.numbers, rows.categories, rows.sizes, target, folds)
    problem = _problem(rows, target, _tree_folds(folds, len(rows)), config)
    return _candidates(problem, linear, scores[:, None], variants)


def regression_scorer(arrays: Mapping[str, NDArray[Any]]) -> ScoreRows:
    """Return a function from numbers (n, p) and categories (n, q) to standardized answers (n, 1).

    Args:
        arrays: of a bundle that may come from anywhere.

    Raises:
        ValueError: the arrays are broken.
    """
    numbers, categories, _ = _head(arrays)
    means = target_means_of(arrays, categories)
    numbers += means.width if means else 0
    plain = AdditiveScores.from_arrays(arrays, "plain", numbers, categories)
    models = [plain]
    (log_weight,) = _vector(arrays, "log_weight", 1).tolist()
    least, largest = _vector(arrays, "bounds", 2).tolist()
    # An answer may lie somewhat outside of what the train rows had.
    margin = 0.25 * (largest - least)
    settings = np.zeros(0)
    if log_weight:
        settings = _vector(arrays, "log.settings", 7)
        if not (settings[[1, 4]] > 0).all():
            raise ValueError("a scale is not positive")
        models.append(AdditiveScores.from_arrays(arrays, "log", numbers, categories))
    score_models = joint_scorer(models, numbers + categories, 1)

    def score(values: Floats, indices: Ints) -> Floats:
        """Return standardized answers (n, 1)."""
        total, *logs = score_models(values, indices)
        for log_scores in logs:
            total = total + log_weight * _from_logs(log_scores, settings)
        return np.asarray(total.clip(least - margin, largest + margin))

    return _extending(means, score)


def _extending(means: TargetMeans | None, score_rows: ScoreRows) -> ScoreRows:
    """Return a function that adds the mean targets of categories to the numbers of rows.

    Args:
        means: of the categories; None: none are added.
        score_rows: scores the rows with them.
    """
    if means is None:
        return score_rows
    return lambda values, indices: score_rows(means.extended(values, indices), indices)


def fit_classification(
    rows: TableRows,
    target: Ints,
    classes: int,
    config: EnsembleConfig,
) -> dict[str, NDArray[Any]]:
    """Fit the ensemble that answers classes.

    Args:
        rows: train rows.
        target: (n,) class indices.
        classes: their number. Some may have no train row: they are never answered.
        config: limits.

    Returns:
        The arrays of the bundle.
    """
    present, local = np.unique(target, return_inverse=True)
    count = len(present)
    shape = (rows.numbers.shape[1], rows.categories.shape[1], classes)
    arrays = dict(zip(_HEAD, map(np.array, shape), strict=True))
    arrays["present"] = present.astype(np.int64)
    if count == 1:
        return arrays
    folds = rows.folds(min(config.folds, len(rows)), config.seed, local)
    if count <= _MOST_ENCODED_CLASSES:
        # Of two classes one mean says all.
        shares = np.eye(count)[local][:, int(count == 2) :]
        rows, means = _with_target_means(rows, shares, folds, config)
        arrays |= means
    linear, linear_scores = fit_logistic(rows.numbers, rows.categories, rows.sizes, local, folds)
    outputs = count
    if count == 2:
        # One score, of the second class against the first.
        outputs = 1
        linear = replace(
            linear,
            weights=linear.weights[:, [1]] - linear.weights[:, [0]],
            intercept=linear.intercept[[1]] - linear.intercept[[0]],
        )
        linear_scores = linear_scores[:, [1]] - linear_scores[:, [0]]
    tree_folds = _tree_folds(folds, len(rows))
    objective = "multiclass" if outputs > 1 else "binary"
    problem = replace(
        _problem(rows, local, tree_folds, config), outputs=outputs, objective=objective
    )
    if outputs > 1:
        # A round is a tree for each class: there are fewer rounds, each a longer step.
        rate = config.learning_rate or 2 * problem.learning_rate
        rounds = max(config.trees * 2 // outputs, min(config.trees, _LEAST_ROUNDS))
        problem = replace(problem, rounds=rounds, learning_rate=rate)
    variants = MANY_CLASS_VARIANTS if len(rows) > FEW_ROWS else CLASS_VARIANTS
    candidates = _candidates(problem, linear, linear_scores, variants)
    judged = np.concatenate(list(tree_folds))
    scores = candidates.scores[:, judged]
    weights = logit_weights(_all_logits(scores), local[judged])
    model = _blended(candidates.linear, candidates.trees, weights)
    return {**arrays, **model.arrays("plain")}


def _all_logits(scores: Floats) -> Floats:
    """Return one logit for each class: a single score is that of the second class of two.

    Args:
        scores: (..., 1) or (..., c).
    """
    if scores.shape[-1] > 1:
        return scores
    return np.concatenate([-scores / 2, scores / 2], axis=-1)


def classification_scorer(arrays: Mapping[str, NDArray[Any]]) -> ScoreRows:
    """Return a function from numbers (n, p) and categories (n, q) to logits (n, c).

    Args:
        arrays: of a bundle that may come from anywhere.

    Raises:
        ValueError: the arrays are broken.
    """
    numbers, categories, classes = _head(arrays)
    present = arrays.get("present")
    if present is None or present.dtype != np.int64 or present.ndim != 1:
        raise ValueError("there is no usable array present")
    ascend = (np.diff(present) > 0).all()
    if not len(present) or not ascend or present[0] < 0 or present[-1] >= classes:
        raise ValueError("the classes of the train rows are not among all classes")
    if len(present) == 1:
        constant = np.full(classes, _NEVER)
        constant[present] = 0.0
        return lambda values, indices: np.tile(constant, (len(values), 1))  # noqa: ARG005
    outputs = 1 if len(present) == 2 else len(present)
    means = target_means_of(arrays, categories)
    numbers += means.width if means else 0
    model = AdditiveScores.from_arrays(arrays, "plain", numbers, categories)
    score_models = joint_scorer([model], numbers + categories, outputs)

    def score(values: Floats, indices: Ints) -> Floats:
        """Return logits (n, c)."""
        (scores,) = score_models(values, indices)
        logits = _all_logits(scores)
        if len(present) == classes:
            return logits
        every = np.tile(logits.min(1, keepdims=True) + _NEVER, classes)
        every[:, present] = logits
        return every

    return _extending(means, score)


def check_columns(arrays: Mapping[str, NDArray[Any]], numbers: int, sizes: Sequence[int]) -> None:
    """Refuse a model of other columns than those of the rows that it is to answer.

    Args:
        arrays: of a bundle, which a scorer has accepted.
        numbers: of columns of numbers of a row.
        sizes: (q,) number of indices of each category column of a row.

    Raises:
        ValueError: it says what differs.
    """
    own_numbers, categories, _ = _head(arrays)
    if (own_numbers, categories) != (numbers, len(sizes)):
        raise ValueError(
            f"the columns are {numbers:,} numbers and {len(sizes):,} categories, "
            f"and the arrays are of {own_numbers:,} and {categories:,}"
        )
    for prefix in ("plain", "log"):
        if f"{prefix}.trees.leaves" in arrays:
            model = AdditiveScores.from_arrays(arrays, prefix, numbers, categories)
            model.check_columns(numbers, sizes)


def importance(arrays: Mapping[str, NDArray[Any]]) -> Floats:
    """Return the share of the gain of all trees at each column: numbers, then categories.

    Args:
        arrays: of a bundle.

    Returns:
        (p + q,) that sums to 1, or zeros if there is no split.

    Raises:
        ValueError: the arrays are broken.
    """
    numbers, categories, _ = _head(arrays)
    means = target_means_of(arrays, categories)
    added = means.width if means else 0
    total = np.zeros(numbers + added + categories)
    for prefix in ("plain", "log"):
        if f"{prefix}.trees.leaves" not in arrays:
            continue
        trees = Trees.from_arrays(arrays, f"{prefix}.trees.")
        trees.check(len(total), 1)
        total += trees.importance(len(total))
    result = np.delete(total, np.s_[numbers : numbers + added])
    if means is not None:
        # The gain of a mean target counts for the column of categories.
        gains = total[numbers : numbers + added].reshape(len(means.columns), -1)
        result[numbers + means.columns] += gains.sum(1)
    return result / (result.sum() or 1.0)


def _head(arrays: Mapping[str, NDArray[Any]]) -> list[int]:
    """Return the numbers of number columns, of category columns and of scores.

    Raises:
        ValueError: one is missing, or out of range.
    """
    values = []
    for name in _HEAD:
        array = arrays.get(name)
        if array is None or array.shape != () or array.dtype != np.int64:
            raise ValueError(f"there is no usable array {name}")
        if not 0 <= array <= 100_000:
            raise ValueError(f"{name} is out of range")
        values.append(int(array))
    return values


def _vector(arrays: Mapping[str, NDArray[Any]], name: str, size: int) -> Floats:
    """Return a vector of finite numbers.

    Raises:
        ValueError: it is missing, of another size, or has another number.
    """
    array = arrays.get(name)
    if array is None or array.dtype != np.float64 or array.shape != (size,):
        raise ValueError(f"there is no usable array {name}")
    if not np.isfinite(array).all():
        raise ValueError(f"a number of {name} is not finite")
    return np.asarray(array)
