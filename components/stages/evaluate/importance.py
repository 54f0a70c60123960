"""Importance of the parameters of a search."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Trials with a value of the metric. With fewer, shares are chance.
ENOUGH = 20
_FOLDS = 5
_SHUFFLES = 10
_TREES = 60
# Rank of a parameter that a trial does not have: trees can split such trials off.
_ABSENT = -1.0

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Importance:
    """Importance of parameters, measured on trials that the model has not seen.

    Args:
        shares: path of a parameter -> its share (0-1) of what all explain, the largest first.
        explained: R² of the model.
    """

    shares: Mapping[str, float]
    explained: float


def importance(trials: Sequence[Mapping[str, Any]], seed: int = 0) -> Importance | None:
    """Return the permutation importance (Breiman 2001) of the parameters of a search.

    A random forest predicts the metric from the parameters. Importance is measured on trials
    that a forest has not seen. A parameter that only some trials have, such as one of an
    architecture, is shuffled among these trials. The metric counts by rank, so that a diverged
    trial does not outweigh the others.

    Args:
        trials: {"params": {path: value}, "watch": metric}, all with a metric.
        seed: of the folds, the forests and the shuffles.

    Returns:
        The importance, or None if there are too few trials or no parameter was varied.
    """
    paths = varied([trial["params"] for trial in trials])
    if len(trials) < ENOUGH or not paths:
        return None
    columns = []
    for path in paths:
        values = [trial["params"].get(path) for trial in trials]
        columns.append(_ranks(values))
    table = np.column_stack(columns)
    order = np.argsort([trial["watch"] for trial in trials], kind="stable")
    target = np.argsort(order) / len(trials)

    loss, errors = _permutation_loss(table, target, seed)
    gains = np.maximum(loss, 0)
    gains = gains / max(gains.sum(), 1e-12)
    descending = np.argsort(-gains, kind="stable")
    shares = {paths[column]: float(gains[column]) for column in descending}
    explained = 1 - errors.mean() / target.var()
    return Importance(shares, float(explained))


def _permutation_loss(table: Array, target: Array, seed: int) -> tuple[Array, Array]:
    """Return how much the error grows when a column is shuffled, and the error of each trial.

    Args:
        table: (trials, parameters) ranks.
        target: (trials,) ranks of the metric, 0-1.

    Returns:
        (parameters,) growth of the squared error; (trials,) squared errors without shuffling.
    """
    from sklearn.ensemble import RandomForestRegressor
    from sklearn.model_selection import KFold

    rng = np.random.default_rng(seed)
    loss = np.zeros(table.shape[1])
    errors = np.zeros(len(table))
    folds = KFold(_FOLDS, shuffle=True, random_state=seed)
    for train, test in folds.split(table):
        forest = RandomForestRegressor(_TREES, random_state=seed)
        forest.fit(table[train], target[train])
        differences = forest.predict(table[test]) - target[test]
        errors[test] = differences**2
        repeated = np.tile(target[test], _SHUFFLES)
        for column in range(table.shape[1]):
            copies = [_shuffled(table[test], column, rng) for _ in range(_SHUFFLES)]
            predicted = forest.predict(np.concatenate(copies))
            shuffled_errors = (predicted - repeated) ** 2
            shuffled_error = shuffled_errors.sum() / _SHUFFLES
            loss[column] += float(shuffled_error - errors[test].sum())
    return loss, errors


def varied(params: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the paths that have more than one value.

    Args:
        params: {path: value} of each trial.

    Returns:
        The paths, sorted.
    """
    values: dict[str, set[str]] = {}
    for trial in params:
        for path, value in trial.items():
            values.setdefault(path, set()).add(str(value))
    return [path for path in sorted(values) if len(values[path]) > 1]


def _ranks(values: Sequence[Any]) -> Array:
    """Return (trials,) the rank of each value, of numbers and of names."""
    present = [value for value in values if value is not None]
    if not all(isinstance(value, int | float) for value in present):
        # Names have no order of their own: they are ranked by the alphabet.
        return _ranks_by(values, present, str)
    return _ranks_by(values, present, lambda value: value)


def _ranks_by(
    values: Sequence[Any],
    present: Sequence[Any],
    key: Callable[[Any], Any],
) -> Array:
    """Return (trials,) the rank of each value's key, `_ABSENT` for a missing value.

    Args:
        values: (trials,) values, None where a trial does not have the parameter.
        present: the values that are not None.
        key: from a value to what is ordered.
    """
    order = sorted({key(value) for value in present})
    ranks = np.full(len(values), _ABSENT, dtype=np.float64)
    for trial, value in enumerate(values):
        if value is not None:
            ranks[trial] = order.index(key(value))
    return ranks


def _shuffled(table: Array, column: int, rng: np.random.Generator) -> Array:
    """Return a copy of a table with one column shuffled among the trials that have it."""
    copy = table.copy()
    rows = np.flatnonzero(copy[:, column] != _ABSENT)
    copy[rows, column] = rng.permutation(copy[rows, column])
    return copy
