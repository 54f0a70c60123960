"""Searchers: the values of a trial, from its number and from what the trials before it found. They keep nothing, so a killed search asks the same again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

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
from components.stages.tune.study import Trial, Watched

_ATTEMPTS = 100
Ask = Callable[
    [int, Iterable[Trial]], Values | None
]  # number, trials so far -> values; None: there are no more


def asker(params: TuneParams, train: BaseModel, seed: int, watched: Watched) -> Ask:
    """The searcher that `tune.searcher` names."""
    if params.searcher == "grid":
        grid = list(
            islice(combinations(params.space, train), params.trials + 1)
        )  # one more tells that there are more; no functools.cache around it: Tune copies searchers, and that cannot be copied
        return lambda number, _: grid[number] if number < len(grid) else None
    if params.searcher == "optuna":
        return lambda number, before: suggest(
            params.space, train, seed, number, list(before), watched
        )
    return lambda number, _: draw(params.space, train, seed, number)


def draw(space: Space, train: BaseModel, seed: int, trial: int) -> Values:
    """Random search (Bergstra and Bengio 2012). A function of seed and number alone; combinations that `train` refuses are drawn again.

    Raises:
        ParamsError: no allowed combination was found.
    """
    rng = np.random.default_rng([seed, trial])

    def attempt(_: int) -> Values:
        drawn = {path: dimension.sample(rng) for path, dimension in sorted(space.items())}
        return assemble(space, train, lambda path, _: drawn[path])

    return _first_allowed(train, map(attempt, range(_ATTEMPTS)))


def combinations(space: Space, train: BaseModel) -> Iterator[Values]:
    """All allowed combinations, each once; paths in order, the last one changing fastest."""

    def extend(values: Values, paths: Sequence[str]) -> Iterator[Values]:
        if not paths:
            yield values
        elif not applies(paths[0], space, values, train):
            yield from extend(values, paths[1:])
        else:
            for value in space[paths[0]].values() or []:
                yield from extend({**values, paths[0]: value}, paths[1:])

    return (values for values in extend({}, ordered(space)) if allowed(train, values))


def suggest(
    space: Space, train: BaseModel, seed: int, trial: int, before: list[Trial], watched: Watched
) -> Values:
    """Optuna's tree of Parzen estimators (Bergstra et al. 2011), drawn path by path. A function of seed, number and the trials before.

    Raises:
        ParamsError: no allowed combination was found.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    known = [_frozen(each, space, watched) for each in before]

    def attempt(number: int) -> Values:
        sampler = optuna.samplers.TPESampler(
            seed=int(np.random.default_rng([seed, trial, number]).integers(2**31)),
            multivariate=False,
        )
        study = optuna.create_study(
            direction="maximize" if watched.goal == "max" else "minimize", sampler=sampler
        )
        study.add_trials(known)
        asked = study.ask()
        return assemble(space, train, lambda path, dimension: _suggested(asked, path, dimension))

    return _first_allowed(train, map(attempt, range(_ATTEMPTS)))


def _suggested(asked: Any, path: str, dimension: Dimension) -> Any:
    if dimension.choice:
        return dimension.choice[
            asked.suggest_categorical(path, range(len(dimension.choice)))
        ]  # by position: choices may be lists
    low, high = dimension.ends()
    return (
        asked.suggest_int(path, low, high)
        if dimension.int
        else asked.suggest_float(path, low, high, log=dimension.loguniform is not None)
    )


def _distribution(dimension: Dimension) -> Any:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if dimension.choice:
        return CategoricalDistribution(range(len(dimension.choice)))
    if dimension.int:
        return IntDistribution(*dimension.int)
    low, high = dimension.ends()
    return FloatDistribution(low, high, log=dimension.loguniform is not None)


def _frozen(trial: Trial, space: Space, watched: Watched) -> Any:
    """A trial as Optuna knows it: one that was stopped counts as worse than one that lasted longer."""
    from optuna.trial import TrialState, create_trial

    values = {
        path: space[path].choice.index(value) if space[path].choice else value  # type: ignore[union-attr]
        for path, value in trial.values.items()
    }
    told: dict[str, Any] = {
        "params": values,
        "distributions": {path: _distribution(space[path]) for path in values},
    }
    if trial.outcome == "finished" and trial.rows:
        return create_trial(state=TrialState.COMPLETE, value=watched.best(trial.rows), **told)
    state = {None: TrialState.RUNNING, "failed": TrialState.FAIL}.get(
        trial.outcome, TrialState.PRUNED
    )
    return create_trial(
        state=state,
        intermediate_values={int(row["epoch"]): row[watched.name] for row in trial.rows},
        **told,
    )


def _first_allowed(train: BaseModel, attempts: Iterator[Values]) -> Values:
    for values in attempts:
        if allowed(train, values):
            return values
    raise ParamsError(
        f"no allowed combination in {_ATTEMPTS} draws",
        where="tune.space",
        remedy="narrow it to what train takes",
    )
