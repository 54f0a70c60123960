"""Population based training (Jaderberg et al. 2017, arXiv:1711.09846): members learn side by side; after each stretch of epochs the worst quarter goes on
from weights, optimizer and values of one of the best quarter, and the values are then changed a little.

A stretch of a member is a trial of the study, numbered generation after generation, with a state folder of its own. From which trial it goes on and with what
values is a function of the seed and of what the generation before found, so a killed search goes on as if nothing had happened. Ray's scheduler of this name
wants checkpoints of Ray's, and decides by who has reported when.

What cannot change while a net learns (architecture, widths, batches, optimizer) is the donor's. The winner's weights are the result, as in the paper: they were
fitted with values that changed on the way, and a refit with the last ones would be another fit.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel

from components.core.files import copy
from components.stages.tune.params import TuneParams
from components.stages.tune.search_space import Dimension, Values, allowed, mutable
from components.stages.tune.study import Trial, Watched

_SHARE = 0.25  # of the members that is replaced; chance that a value is drawn anew
_FACTORS = (0.8, 1.2)
Known = Mapping[int, Trial]


@dataclass(frozen=True)
class Population:
    """Who goes on from whom.

    Args:
        train: what values are put into.
    """

    params: TuneParams
    train: BaseModel
    seed: int
    watched: Watched

    def generation(self, number: int) -> int:
        """Of a trial, from 0."""
        return number // self.params.trials

    def until(self, number: int) -> int:
        """The last epoch of a trial."""
        return min(self.params.epochs, (self.generation(number) + 1) * self.params.perturb_epochs)

    def inherited(self, number: int) -> int:
        """How many epochs a trial goes on from."""
        return self.generation(number) * self.params.perturb_epochs

    def ready(self, number: int, trials: Known) -> bool:
        """Whether the generation before a trial has ended."""
        return all(
            before in trials and trials[before].outcome
            for before in self._members(self.generation(number) - 1)
        )

    def born(self, number: int, trials: Known) -> tuple[int, Values] | None:
        """The trial that one goes on from, and its values; None: none of the generation before came to its end.

        Args:
            number: of a generation that is not the first, and is ready.
        """
        many = min(math.ceil(self.params.trials * _SHARE), self.params.trials // 2)
        ranked = self._ranked(
            [trials[before] for before in self._members(self.generation(number) - 1)]
        )
        if not ranked:
            return None
        own = number - self.params.trials
        if any(trial.number == own for trial in ranked[: self.params.trials - many]):
            return own, trials[own].values
        rng = np.random.default_rng([self.seed, number])
        donor = ranked[int(rng.integers(min(many, len(ranked))))]
        return donor.number, self._changed(donor.values, rng)

    def lost(self, trials: Known) -> bool:
        """Whether a generation has ended of which nobody can go on."""
        generations = {self.generation(number) for number in trials}
        return any(
            all(
                (trial := trials.get(number)) and trial.outcome == "failed"
                for number in self._members(each)
            )
            for each in generations
        )

    def kept(self, trials: Known) -> set[int]:
        """Whose weights and checkpoints may still be asked for: the newest generation that has ended and the one under way, and the best trial."""
        whole = max(
            (
                each
                for each in map(self.generation, trials)
                if self.ready((each + 1) * self.params.trials, trials)
            ),
            default=0,
        )
        ended = [trial for trial in trials.values() if trial.outcome == "finished"]
        best = max(
            ended,
            key=lambda trial: (max(map(self.watched.score, trial.rows)), -trial.number),
            default=None,
        )
        return {number for number in trials if self.generation(number) >= whole} | (
            {best.number} if best else set()
        )

    def candidates(self, trials: Sequence[Trial]) -> list[Trial]:
        """Those that may win: they came to their end, so their weights are there. If there are none, those that say why."""
        return [trial for trial in trials if trial.outcome == "finished"] or [
            replace(trial, rows=[]) for trial in trials if trial.outcome == "failed"
        ]

    def lineage(self, trials: Sequence[Trial]) -> dict[int, int | None]:
        """Of each trial the one that it goes on from."""
        known = {trial.number: trial for trial in trials}
        return {
            number: born[0]
            if number >= self.params.trials and (born := self.born(number, known))
            else None
            for number in known
        }

    def told(self, trials: Sequence[Trial]) -> list[Trial]:
        """The trials for people: whose member went on from another one counts as stopped."""
        parents = self.lineage(trials)
        return [
            replace(trial, outcome="stopped")
            if trial.outcome == "finished"
            and parents.get(trial.number + self.params.trials, trial.number) != trial.number
            else trial
            for trial in trials
        ]

    def rungs(self, told: Sequence[Trial]) -> list[dict[str, int]]:
        """What became of each generation: a row as of `account.rungs`."""
        table = []
        for each in sorted({self.generation(trial.number) for trial in told}):
            here = [trial for trial in told if self.generation(trial.number) == each]
            ends, last = (
                Counter(str(trial.outcome) for trial in here),
                self.until(here[0].number) >= self.params.epochs,
            )
            went_on, finished = (0, ends["finished"]) if last else (ends["finished"], 0)
            table.append(
                {
                    "epoch": self.until(here[0].number),
                    "reached": len(here),
                    "went_on": went_on,
                    "stopped": ends["stopped"],
                    "finished": finished,
                    "failed": ends["failed"],
                }
            )
        return table

    def _members(self, generation: int) -> range:
        size = self.params.trials
        return range(max(0, generation * size), max(0, (generation + 1) * size))

    def _ranked(self, trials: Sequence[Trial]) -> list[Trial]:
        """Those that can go on, the best last figure first."""
        return sorted(
            (trial for trial in trials if trial.outcome == "finished"),
            key=lambda trial: (-self.watched.score(trial.rows[-1]), trial.number),
        )

    def _changed(self, values: Values, rng: np.random.Generator) -> Values:
        """Values near these; the same where `train` does not take them together."""
        paths = [path for path in mutable(self.params.space) if path in values]
        new = {path: _near(values[path], self.params.space[path], rng) for path in paths}
        return {**values, **new} if allowed(self.train, {**values, **new}) else values


def _near(value: Any, dimension: Dimension, rng: np.random.Generator) -> Any:
    """A value of the space: drawn anew, or a neighbor, or 0.8 or 1.2 times as much. Zero means off, and nothing is switched on or off on the way."""
    up = int(rng.integers(2))
    if rng.random() < _SHARE:
        new = dimension.sample(rng)
    elif (steps := dimension.values()) is not None:
        new = steps[min(max(steps.index(value) + 2 * up - 1, 0), len(steps) - 1)]
    else:
        low, high = dimension.ends()
        new = min(max(value * _FACTORS[up], low), high)
    return new if bool(new) == bool(value) else value


def inherit(parent: Path, state: Path) -> None:
    """Put what a fit needs to go on from another one's end into its state folder; a fit that has begun has it."""
    if not list((state / "checkpoints").glob("step-*.pt")):
        for path in [
            *parent.glob("best.safetensors"),
            *sorted(parent.glob("checkpoints/step-*.pt"))[-1:],
        ]:
            copy(path, state / path.relative_to(parent))
