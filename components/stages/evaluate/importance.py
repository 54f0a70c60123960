"""Which parameters of a search mattered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

ENOUGH = 20  # trials with a figure: below, shares are chance
_FOLDS, _SHUFFLES, _TREES = 5, 10, 60
_ABSENT = -1.0  # of the rank of a parameter that a trial does not have: trees may split it off


@dataclass(frozen=True)
class Importance:
    """Shares (0-1, the largest first) of what the parameters explain together, and the R² of that on trials not seen."""

    shares: Mapping[str, float]
    explained: float


def importance(trials: Sequence[Mapping[str, Any]], seed: int = 0) -> Importance | None:
    """Permutation importance (Breiman 2001) of a random forest from parameters to the figure, on trials that each forest has not seen.

    A parameter that only some trials have (of one architecture, say) is shuffled among these. Figures count by rank: a trial that fell apart must not outweigh the others.

    Args:
        trials: {"params": {path: value}, "watch": figure}, all with a figure.

    Returns:
        None: too few trials, or nothing was varied.
    """
    from sklearn.ensemble import RandomForestRegressor
    from sklearn.model_selection import KFold

    paths = varied([trial["params"] for trial in trials])
    if len(trials) < ENOUGH or not paths:
        return None
    table = np.column_stack(
        [_ranked([trial["params"].get(path) for trial in trials]) for path in paths]
    )
    goal = np.argsort(np.argsort([trial["watch"] for trial in trials], kind="stable")) / len(trials)
    rng, lost, errors = np.random.default_rng(seed), np.zeros(len(paths)), np.zeros(len(trials))
    for seen, kept in KFold(_FOLDS, shuffle=True, random_state=seed).split(table):
        forest = RandomForestRegressor(_TREES, random_state=seed).fit(table[seen], goal[seen])
        errors[kept] = (forest.predict(table[kept]) - goal[kept]) ** 2
        for column in range(len(paths)):
            shuffled = np.concatenate(
                [_shuffled(table[kept], column, rng) for _ in range(_SHUFFLES)]
            )
            lost[column] += float(
                ((forest.predict(shuffled) - np.tile(goal[kept], _SHUFFLES)) ** 2).sum() / _SHUFFLES
                - errors[kept].sum()
            )
    gains = np.maximum(lost, 0) / max(np.maximum(lost, 0).sum(), 1e-12)
    order = np.argsort(-gains, kind="stable")
    return Importance(
        {paths[place]: float(gains[place]) for place in order},
        float(1 - errors.mean() / goal.var()),
    )


def varied(params: Sequence[Mapping[str, Any]]) -> list[str]:
    """The paths of which there is more than one value."""
    paths = sorted({path for each in params for path in each})
    return [path for path in paths if len({str(each[path]) for each in params if path in each}) > 1]


def _ranked(values: Sequence[Any]) -> NDArray[np.float64]:
    """(trials,) numbers and names alike as places in their order."""
    numbers = all(isinstance(value, int | float) for value in values if value is not None)
    order = sorted({value if numbers else str(value) for value in values if value is not None})
    return np.array(
        [
            _ABSENT if value is None else order.index(value if numbers else str(value))
            for value in values
        ],
        dtype=np.float64,
    )


def _shuffled(
    table: NDArray[np.float64], column: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    twin = table.copy()
    here = np.flatnonzero(twin[:, column] != _ABSENT)
    twin[here, column] = rng.permutation(twin[here, column])
    return twin
