"""Warm start: the best configurations of earlier searches are tried first.

They are the searches of the same task in MLflow (Feurer et al. 2015, without meta-features).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from pydantic import BaseModel

from components.core.errors import EnvironmentFault
from components.core.job import Job
from components.registry.tracking.trials import best_trials
from components.stages.tune.search_space import Space, Values, allowed, assemble
from components.stages.tune.searchers import SuggestParams
from components.stages.tune.study import MonitoredMetric, Study, Trial


def first_tried(
    study: Study,
    job: Job,
    train: BaseModel,
    metric: MonitoredMetric,
) -> list[Values]:
    """Return the values of the first trials, the best first.

    They are chosen once, when a study is new, and written with it. So a search that is killed or
    extended has the same ones. TPE learns from the results that they reach in this study, since
    earlier results may be of other data, epochs or code. If the store is locked, slow or not
    there, the search begins without them.

    Args:
        study: of the search.
        job: tune.
        train: params of train.
        metric: the monitored one.
    """
    if study.first_tried is None and job.params.warm_start:
        if study.trials:
            study.journal.log(
                "warm start: not in a study that goes on "
                "(gristmill stage tune --fresh begins a new one)"
            )
        else:
            study.try_first(_choose(study, job, train, metric))
    return study.first_tried or []


def before(first: list[Values], ask: SuggestParams, train: BaseModel) -> SuggestParams:
    """Return a searcher that tries some values first.

    Values that `train` refuses by now are left to the other searcher: more workers per trial may
    need larger batches.

    Args:
        first: of the first trials.
        ask: the searcher of the other trials.
        train: params of train.
    """

    def ask_first(number: int, trials: Iterable[Trial]) -> Values | None:
        """Return the next values of earlier searches, or ask the searcher after the last."""
        if number < len(first) and allowed(train, first[number]):
            return first[number]
        return ask(number, trials)

    return ask_first


def fitting(texts: Mapping[str, str], space: Space, train: BaseModel) -> Values | None:
    """Return a configuration that was logged as text, as values of this space.

    Args:
        texts: path -> value as text.
        space: of the search.
        train: params of train.

    Returns:
        None if the space cannot draw it: a path that it has not or that is missing, a value
        outside, a `when` that does not hold.
    """
    try:
        values = assemble(space, train, lambda path, dimension: dimension.read(texts[path]))
    except (KeyError, ValueError):
        return None
    if set(values) == set(texts) and allowed(train, values):
        return values
    return None


def _choose(
    study: Study,
    job: Job,
    train: BaseModel,
    metric: MonitoredMetric,
) -> list[Values]:
    """Return the best configurations of earlier searches that fit this space."""
    log = study.journal.log
    try:
        trials = best_trials(
            job.root,
            job.tags["pipeline"],
            job.task,
            job.stage,
            metric.name,
            metric.goal,
        )
    except EnvironmentFault as fault:
        log(f"warm start: {fault.what}; the search begins cold")
        return []
    chosen: list[Values] = []
    tried = 0
    for texts in _distinct([trial.params for trial in trials]):
        if len(chosen) == job.params.warm_start:
            break
        tried += 1
        values = fitting(texts, job.params.space, train)
        if values is not None and values not in chosen:
            chosen.append(values)
    searches = len({trial.search for trial in trials})
    log(_message(len(chosen), tried, searches))
    return chosen


def _distinct(configurations: Sequence[Mapping[str, str]]) -> list[Mapping[str, str]]:
    """Return the distinct configurations, in the order of their first ones."""
    by_items = {frozenset(params.items()): params for params in configurations}
    return list(by_items.values())


def _message(chosen: int, tried: int, searches: int) -> str:
    """Return a message about the choice.

    Args:
        chosen: number of configurations that fit.
        tried: number of configurations that were compared with the space.
        searches: number of searches that they come from.
    """
    if not searches:
        return "warm start: MLflow knows no earlier search of this task; the search begins cold"
    best = f"{tried} best configurations of an earlier search"
    if searches > 1:
        best = f"{tried} best configurations of {searches} earlier searches"
    if not chosen:
        return f"warm start: none of the {best} fits this space; the search begins cold"
    if chosen > 1:
        return f"warm start: {chosen} of the {best} fit this space and are tried first"
    return f"warm start: {chosen} of the {best} fits this space and is tried first"
