"""Warm start: the best configurations that earlier searches of the same task left in MLflow are tried first (Feurer et al. 2015, without meta-features)."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import BaseModel

from components.core.errors import EnvironmentFault
from components.core.job import Job
from components.registry.tracking.trials import best_trials
from components.stages.tune.search_space import Space, Values, allowed, assemble
from components.stages.tune.searchers import Ask
from components.stages.tune.study import Study, Watched


def first_tried(study: Study, job: Job, train: BaseModel, watched: Watched) -> list[Values]:
    """The values of the first trials, the best first. Chosen once, when a study is new, and written down with it: a search that is killed or extended has the same ones.

    They are tried, not believed: TPE learns of them by what they reach in this study, since earlier figures may be of other data, epochs or code. A store that
    is locked, slow or away makes the search begin without them, and never fail.
    """
    if study.first_tried is None and job.params.warm_start:
        if study.trials:
            study.journal.log(
                "warm start: not in a study that goes on (gristmill stage tune --fresh begins a new one)"
            )
        else:
            study.try_first(_chosen(study, job, train, watched))
    return study.first_tried or []


def before(first: list[Values], ask: Ask, train: BaseModel) -> Ask:
    """A searcher that gives these values to the first trials; not those that `train` refuses by now, since more workers per trial may want larger batches."""
    return lambda number, trials: (
        first[number]
        if number < len(first) and allowed(train, first[number])
        else ask(number, trials)
    )


def fitting(told: Mapping[str, str], space: Space, train: BaseModel) -> Values | None:
    """A configuration that was logged as text, as values of this space; None if the space cannot draw it: a path that it has not or that is missing, a value outside, a `when` not met."""
    try:
        values = assemble(space, train, lambda path, dimension: dimension.read(told[path]))
    except (KeyError, ValueError):
        return None
    return values if set(values) == set(told) and allowed(train, values) else None


def _chosen(study: Study, job: Job, train: BaseModel, watched: Watched) -> list[Values]:
    say, wanted = study.journal.log, job.params.warm_start
    try:
        found = best_trials(
            job.root, job.tags["pipeline"], job.task, job.stage, watched.name, watched.goal
        )
    except EnvironmentFault as fault:
        say(f"warm start: {fault.what}; the search begins cold")
        return []
    chosen: list[Values] = []
    looked = 0
    for told in {frozenset(trial.params.items()): trial.params for trial in found}.values():
        if len(chosen) == wanted:
            break
        looked += 1
        values = fitting(told, job.params.space, train)
        if values is not None and values not in chosen:
            chosen.append(values)
    searches = len({trial.search for trial in found})
    many = (
        f"{looked} best configurations of {searches} earlier searches"
        if searches > 1
        else f"{looked} best configurations of an earlier search"
    )
    if not found:
        say("warm start: MLflow knows no earlier search of this task; the search begins cold")
    elif not chosen:
        say(f"warm start: none of the {many} fits this space; the search begins cold")
    else:
        say(
            f"warm start: {len(chosen)} of the {many} {'fit' if len(chosen) > 1 else 'fits'} this space and {'are' if len(chosen) > 1 else 'is'} tried first"
        )
    return chosen
