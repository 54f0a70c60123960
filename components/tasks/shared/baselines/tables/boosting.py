"""Boost trees with LightGBM on folds of the train rows, each stopped on the rows left out.

LightGBM (Ke et al. 2017) takes categories and missing numbers as they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from components.tasks.shared.baselines.tables.linear import Floats, Folds, Ints
from components.tasks.shared.baselines.tables.trees import Trees, joined_trees, parse_trees

# Rounds without a gain after which boosting stops.
_PATIENCE = 50
# Rounds in this many rows may be longer steps: their number is less of a limit than time is.
_MANY_ROWS = 20_000
# Same bytes on each run, for each number of processors.
_REPRODUCIBLE: Mapping[str, Any] = {
    "num_threads": 1,
    "deterministic": True,
    "force_row_wise": True,
    "verbose": -1,
}
# Splits by sets of few rows, for tables with few rows: LightGBM's defaults ask for 100.
_SMALL_SETS: Mapping[str, Any] = {"min_data_per_group": 5, "cat_smooth": 3, "cat_l2": 3}


@dataclass(frozen=True)
class Variant:
    """One way to boost.

    Args:
        settings: of LightGBM.
        on_linear: whether the trees learn what a linear model leaves.
    """

    settings: Mapping[str, Any]
    on_linear: bool = False


_SMALL: Mapping[str, Any] = {
    "num_leaves": 12,
    "min_data_in_leaf": 5,
    "lambda_l2": 5,
    "max_bin": 63,
    **_SMALL_SETS,
}
VARIANTS: Mapping[str, Variant] = {
    # LightGBM's defaults.
    "standard": Variant({"num_leaves": 31}),
    "wide": Variant(
        {"num_leaves": 63, "feature_fraction": 0.8, "bagging_fraction": 0.8, "bagging_freq": 1}
    ),
    "small": Variant(_SMALL),
    # Thresholds are drawn (Geurts et al. 2006), which is smoother.
    "random": Variant(
        {"num_leaves": 12, "min_data_in_leaf": 3, "extra_trees": True, **_SMALL_SETS}
    ),
    "on_linear": Variant(_SMALL, on_linear=True),
}


@dataclass(frozen=True)
class BoostingProblem:
    """Train rows, their folds, and limits.

    Args:
        features: (n, p + q) numbers with NaN where one is missing, then category indices.
        numbers: p.
        target: (n,) standardized numbers, or class indices.
        outputs: number of scores of a row: 1, or the number of classes, more than 2.
        objective: of LightGBM.
        folds: numbers of the rows that are left out of each model, and stop it.
        rounds: most trees for each score.
        learning_rate: of a round.
        leaves: most leaves of a tree; None: of the variant.
        seed: of every random choice.
    """

    features: Floats
    numbers: int
    target: NDArray[Any]
    outputs: int
    objective: str
    folds: Folds
    rounds: int
    learning_rate: float
    leaves: int | None
    seed: int


def boost(
    problem: BoostingProblem,
    variant: Variant,
    offset: Floats | None = None,
) -> tuple[Trees, Floats]:
    """Fit one model on all rows but a fold, for each fold.

    All stop after the round with the least mean loss on the rows left out.

    Args:
        problem: rows and limits.
        variant: how to boost.
        offset: (n, outputs) scores to which the trees add.

    Returns:
        Trees that add up to the mean of the models; scores (n, outputs) of the rows that are in a
        fold, by the model that did not learn from them, and zeros for the rest.
    """
    import lightgbm

    rows = len(problem.target)
    settings = {
        **_REPRODUCIBLE,
        "objective": problem.objective,
        "seed": problem.seed,
        "learning_rate": problem.learning_rate,
        **variant.settings,
    }
    if problem.outputs > 1:
        settings["num_class"] = problem.outputs
    if problem.leaves is not None:
        settings["num_leaves"] = problem.leaves
    every = np.arange(rows)
    start = None
    if offset is not None:
        start = offset.ravel(order="F")
    data = lightgbm.Dataset(
        problem.features,
        problem.target,
        init_score=start,
        categorical_feature=list(range(problem.numbers, problem.features.shape[1])),
        params=settings,
        free_raw_data=False,
    )
    done = lightgbm.cv(
        settings,
        data,
        num_boost_round=problem.rounds,
        folds=[(np.setdiff1d(every, fold), fold) for fold in problem.folds],
        callbacks=[lightgbm.early_stopping(_PATIENCE, verbose=False)],
        return_cvbooster=True,
    )
    ensemble = done["cvbooster"]
    scores = np.zeros((rows, problem.outputs))
    parts = []
    for fold, booster in zip(problem.folds, ensemble.boosters, strict=True):
        best = ensemble.best_iteration
        # Without the number, LightGBM takes all cores here and in `model_to_string`.
        raw = booster.predict(
            problem.features[fold], raw_score=True, num_iteration=best, num_threads=1
        )
        scores[fold] = raw.reshape(len(fold), problem.outputs)
        parts.append(parse_trees(booster.model_to_string(num_iteration=best)))
    return joined_trees(parts).scaled(1 / len(parts)), scores


def default_learning_rate(rows: int) -> float:
    """Return the learning rate for a number of rows."""
    return 0.1 if rows > _MANY_ROWS else 0.05


def feature_matrix(numbers: Floats, categories: Ints) -> Floats:
    """Return numbers and category indices side by side (n, p + q), as trees look at them.

    Args:
        numbers: (n, p), NaN where one is missing.
        categories: (n, q).
    """
    return np.hstack([numbers, categories.astype(np.float64)])
