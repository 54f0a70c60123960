"""Searchers: the values of a trial, from its number and from the results of earlier trials.

They have no state, so a search that goes on after a kill asks for the same values.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel

from components.core.errors import ParamsError
from components.stages.tune.params import TuneParams
from components.stages.tune.search_space import (
    Dimension,
    Space,
    Values,
    allowed,
    applies,
    assemble,
    ordered,
)
from components.stages.tune.study import MonitoredMetric, Trial

_ATTEMPTS = 100
# Number of a trial, trials so far -> values; None if there are no more.
SuggestParams = Callable[[int, Iterable[Trial]], Values | None]


def asker(
    params: TuneParams, train: BaseModel, seed: int, metric: MonitoredMetric
) -> SuggestParams:
    """Return the searcher that `tune.searcher` names.

    Args:
        params: of tune.
        train: params of train.
        seed: of the draws.
        metric: the monitored one.
    """
    space = params.space
    if params.searcher == "grid":
        # One more shows that there are more. No functools.cache: Tune copies searchers, and a
        # cache cannot be copied.
        grid = list(islice(combinations(space, train), params.trials + 1))
        return lambda number, _: grid[number] if number < len(grid) else None
    if params.searcher == "optuna":
        return lambda number, before: suggest(space, train, seed, number, list(before), metric)
    return lambda number, _: draw(space, train, seed, number)


def draw(space: Space, train: BaseModel, seed: int, trial: int) -> Values:
    """Return random values (Bergstra and Bengio 2012), a function of seed and number alone.

    Combinations that `train` refuses are drawn again.

    Args:
        space: of the search.
        train: params of train.
        seed: of the draws.
        trial: its number.

    Raises:
        ParamsError: no allowed combination was found.
    """
    rng = np.random.default_rng([seed, trial])

    def attempt(_: int) -> Values:
        """Return the next values of the trial's random stream."""
        drawn = {path: dimension.sample(rng) for path, dimension in sorted(space.items())}
        return assemble(space, train, lambda path, _: drawn[path])

    return _first_allowed(train, map(attempt, range(_ATTEMPTS)))


def combinations(space: Space, train: BaseModel) -> Iterator[Values]:
    """Yield all allowed combinations once; paths in order, the last one changing fastest."""

    def extend(values: Values, paths: Sequence[str]) -> Iterator[Values]:
        """Yield all values that begin with some values.

        Args:
            values: of the paths before.
            paths: that have no value yet, in the order of their conditions.
        """
        if not paths:
            yield values
            return
        first = paths[0]
        rest = paths[1:]
        if not applies(first, space, values, train):
            yield from extend(values, rest)
            return
        for value in space[first].values() or []:
            yield from extend({**values, first: value}, rest)

    return (values for values in extend({}, ordered(space)) if allowed(train, values))


def suggest(
    space: Space,
    train: BaseModel,
    seed: int,
    trial: int,
    before: list[Trial],
    metric: MonitoredMetric,
) -> Values:
    """Return values by Optuna's tree of Parzen estimators (Bergstra et al. 2011), path by path.

    They are a function of seed, number and the trials before.

    Args:
        space: of the search.
        train: params of train.
        seed: of the draws.
        trial: its number.
        before: the trials before it.
        metric: the monitored one.

    Raises:
        ParamsError: no allowed combination was found.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    earlier = [_optuna_trial(trial, space, metric) for trial in before]
    direction: Literal["maximize", "minimize"] = "minimize"
    if metric.goal == "max":
        direction = "maximize"

    def attempt(number: int) -> Values:
        """Return the suggestion of a sampler with a seed for this attempt."""
        rng = np.random.default_rng([seed, trial, number])
        sampler_seed = int(rng.integers(2**31))
        sampler = optuna.samplers.TPESampler(seed=sampler_seed, multivariate=False)
        study = optuna.create_study(direction=direction, sampler=sampler)
        study.add_trials(earlier)
        asked = study.ask()
        return assemble(space, train, lambda path, dimension: _suggested(asked, path, dimension))

    return _first_allowed(train, map(attempt, range(_ATTEMPTS)))


def _suggested(asked: Any, path: str, dimension: Dimension) -> Any:
    """Return the value that a trial of Optuna suggests for a path."""
    if dimension.choice:
        # By position: choices may be lists.
        positions = range(len(dimension.choice))
        return dimension.choice[asked.suggest_categorical(path, positions)]
    low, high = dimension.ends()
    if dimension.int:
        return asked.suggest_int(path, low, high)
    return asked.suggest_float(path, low, high, log=dimension.loguniform is not None)


def _distribution(dimension: Dimension) -> Any:
    """Return the distribution of a dimension in Optuna's terms."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if dimension.choice:
        return CategoricalDistribution(range(len(dimension.choice)))
    if dimension.int:
        return IntDistribution(*dimension.int)
    low, high = dimension.ends()
    return FloatDistribution(low, high, log=dimension.loguniform is not None)


def _optuna_trial(trial: Trial, space: Space, metric: MonitoredMetric) -> Any:
    """Return a trial in Optuna's terms.

    One that was stopped counts as worse than one that lasted longer.
    """
    from optuna.trial import TrialState, create_trial

    values: dict[str, Any] = {}
    for path, value in trial.values.items():
        choice = space[path].choice
        values[path] = choice.index(value) if choice else value
    distributions = {path: _distribution(space[path]) for path in values}
    if trial.outcome == "finished" and trial.rows:
        return create_trial(
            state=TrialState.COMPLETE,
            value=metric.best(trial.rows),
            params=values,
            distributions=distributions,
        )
    states = {None: TrialState.RUNNING, "failed": TrialState.FAIL}
    return create_trial(
        state=states.get(trial.outcome, TrialState.PRUNED),
        intermediate_values={int(row["epoch"]): row[metric.name] for row in trial.rows},
        params=values,
        distributions=distributions,
    )


def _first_allowed(train: BaseModel, attempts: Iterator[Values]) -> Values:
    """Return the first values that `train` accepts.

    Raises:
        ParamsError: there are none.
    """
    for values in attempts:
        if allowed(train, values):
            return values
    raise ParamsError(
        f"no allowed combination in {_ATTEMPTS} draws",
        where="tune.space",
        remedy="narrow it to what train takes",
    )
