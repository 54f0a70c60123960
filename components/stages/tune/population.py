"""Population based training (Jaderberg et al. 2017, arXiv:1711.09846).

Members train side by side. After some epochs the worst quarter goes on from weights, optimizer and
values of members of the best quarter. Their values are then changed a little.

The epochs of a member between two exchanges are a trial of the study, numbered generation after
generation, with a state folder of its own. From which trial it goes on and with what values is a
function of the seed and of the results of the generation before, so a killed search goes on as if
nothing had happened. Ray's scheduler of this name needs Ray's checkpoints, and its decisions
depend on the order of reports.

A member takes what cannot change during training (architecture, widths, batches, optimizer) from
its parent. The winner's weights are the result, as in the paper: they were fitted with values that
changed during training, and a refit with the last ones would be another fit.
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
from components.stages.tune.study import MonitoredMetric, Trial

# Share of the members that is replaced, and chance that a value is drawn anew.
_SHARE = 0.25
_FACTORS = (0.8, 1.2)
Trials = Mapping[int, Trial]


@dataclass(frozen=True)
class Population:
    """Rules by which trials go on from other trials.

    Args:
        params: of tune.
        train: params of train, with which values must agree.
        seed: of the draws.
        metric: the monitored one.
    """

    params: TuneParams
    train: BaseModel
    seed: int
    metric: MonitoredMetric

    def generation(self, number: int) -> int:
        """Return the generation of a trial, from 0.

        Args:
            number: of the trial.
        """
        return number // self.params.trials

    def until(self, number: int) -> int:
        """Return the last epoch of a trial."""
        last = (self.generation(number) + 1) * self.params.perturb_epochs
        return min(self.params.epochs, last)

    def inherited(self, number: int) -> int:
        """Return how many epochs a trial inherits from its parent."""
        return self.generation(number) * self.params.perturb_epochs

    def ready(self, number: int, trials: Trials) -> bool:
        """Return whether the generation before a trial has ended.

        Args:
            number: of the trial.
            trials: all trials by number.
        """
        before = self._members(self.generation(number) - 1)
        return all(member in trials and trials[member].outcome for member in before)

    def born(self, number: int, trials: Trials) -> tuple[int, Values] | None:
        """Return the parent of a trial, and its values.

        Args:
            number: of a trial of a generation that is not the first, and is ready.
            trials: all trials by number.

        Returns:
            None if no trial of the generation before has finished.
        """
        size = self.params.trials
        replaced = min(math.ceil(size * _SHARE), size // 2)
        before = self._members(self.generation(number) - 1)
        ranked = self._ranked([trials[member] for member in before])
        if not ranked:
            return None
        predecessor = number - size
        if any(trial.number == predecessor for trial in ranked[: size - replaced]):
            return predecessor, trials[predecessor].values
        rng = np.random.default_rng([self.seed, number])
        parent = ranked[int(rng.integers(min(replaced, len(ranked))))]
        return parent.number, self._changed(parent.values, rng)

    def lost(self, trials: Trials) -> bool:
        """Return whether all trials of a generation have failed, so that none can go on."""
        generations = {self.generation(number) for number in trials}
        return any(self._all_failed(generation, trials) for generation in generations)

    def _all_failed(self, generation: int, trials: Trials) -> bool:
        """Return whether a generation is complete and none of its trials can go on."""
        members = [trials.get(number) for number in self._members(generation)]
        return all(trial and trial.outcome == "failed" for trial in members)

    def needed(self, trials: Trials) -> set[int]:
        """Return the trials with weights and checkpoints that may still be needed.

        These are the newest generation that has ended, the current one, and the best trial.
        """
        newest = 0
        for generation in map(self.generation, trials):
            if self.ready((generation + 1) * self.params.trials, trials):
                newest = max(newest, generation)
        needed = {number for number in trials if self.generation(number) >= newest}
        finished = [trial for trial in trials.values() if trial.outcome == "finished"]
        if finished:
            needed.add(max(finished, key=self._best_score).number)
        return needed

    def _best_score(self, trial: Trial) -> tuple[float, int]:
        """Return the best score of a trial; of equal ones the first trial is the largest."""
        return max(map(self.metric.score, trial.rows)), -trial.number

    def candidates(self, trials: Sequence[Trial]) -> list[Trial]:
        """Return the trials that may win: those that have finished, which have weights.

        If there are none, they are the failed ones, without rows: their errors are reported.
        """
        finished = [trial for trial in trials if trial.outcome == "finished"]
        if finished:
            return finished
        return [replace(trial, rows=[]) for trial in trials if trial.outcome == "failed"]

    def lineage(self, trials: Sequence[Trial]) -> dict[int, int | None]:
        """Return the parent of each trial by number; None where there is none."""
        by_number = {trial.number: trial for trial in trials}
        parents: dict[int, int | None] = {}
        for number in by_number:
            parents[number] = None
            if number >= self.params.trials:
                born = self.born(number, by_number)
                if born:
                    parents[number] = born[0]
        return parents

    def trials_for_report(self, trials: Sequence[Trial]) -> list[Trial]:
        """Return the trials as reports show them.

        A trial counts as stopped if its member went on from another trial.
        """
        parents = self.lineage(trials)
        shown = []
        for trial in trials:
            successor = trial.number + self.params.trials
            goes_on = parents.get(successor, trial.number) == trial.number
            if trial.outcome == "finished" and not goes_on:
                trial = replace(trial, outcome="stopped")
            shown.append(trial)
        return shown

    def rungs(self, trials: Sequence[Trial]) -> list[dict[str, int]]:
        """Return the outcomes of each generation, a row as of `search_report.rungs`.

        Args:
            trials: of `trials_for_report`.
        """
        by_generation: dict[int, list[Trial]] = {}
        for trial in trials:
            by_generation.setdefault(self.generation(trial.number), []).append(trial)
        table = []
        for _, members in sorted(by_generation.items()):
            outcomes = Counter(str(trial.outcome) for trial in members)
            epoch = self.until(members[0].number)
            is_last = epoch >= self.params.epochs
            table.append(
                {
                    "epoch": epoch,
                    "reached": len(members),
                    "went_on": 0 if is_last else outcomes["finished"],
                    "stopped": outcomes["stopped"],
                    "finished": outcomes["finished"] if is_last else 0,
                    "failed": outcomes["failed"],
                }
            )
        return table

    def _members(self, generation: int) -> range:
        """Return the numbers of the trials of a generation; none below 0."""
        size = self.params.trials
        return range(max(0, generation * size), max(0, (generation + 1) * size))

    def _ranked(self, trials: Sequence[Trial]) -> list[Trial]:
        """Return the trials that can go on, the best at its last epoch first."""
        finished = [trial for trial in trials if trial.outcome == "finished"]

        def rank(trial: Trial) -> tuple[float, int]:
            """Return the sort key of a trial; of equal ones the first trial comes first."""
            return -self.metric.score(trial.rows[-1]), trial.number

        return sorted(finished, key=rank)

    def _changed(self, values: Values, rng: np.random.Generator) -> Values:
        """Return values near the given ones, or the same where `train` refuses the new ones.

        Args:
            values: of the parent, by path.
            rng: of the trial.
        """
        changed = dict(values)
        for path in mutable(self.params.space):
            if path in values:
                changed[path] = _near(values[path], self.params.space[path], rng)
        return changed if allowed(self.train, changed) else values


def _near(value: Any, dimension: Dimension, rng: np.random.Generator) -> Any:
    """Return a value of the space: drawn anew, or a neighbor, or 0.8 or 1.2 times as much.

    Zero means off. Nothing is switched on or off during training.

    Args:
        value: of the parent.
        dimension: of the search space.
        rng: of the trial.
    """
    up = int(rng.integers(2))
    steps = dimension.values()
    if rng.random() < _SHARE:
        new = dimension.sample(rng)
    elif steps is not None:
        neighbor = steps.index(value) + 2 * up - 1
        new = steps[min(max(neighbor, 0), len(steps) - 1)]
    else:
        low, high = dimension.ends()
        new = min(max(value * _FACTORS[up], low), high)
    return new if bool(new) == bool(value) else value


def inherit(parent: Path, state: Path) -> None:
    """Copy weights and the last checkpoint of a trial into the state folder of its successor.

    A successor that has begun has them.

    Args:
        parent: state folder of the trial.
        state: state folder of its successor.
    """
    if list((state / "checkpoints").glob("step-*.pt")):
        return
    weights = list(parent.glob("best.safetensors"))
    checkpoints = sorted(parent.glob("checkpoints/step-*.pt"))
    for path in weights + checkpoints[-1:]:
        copy(path, state / path.relative_to(parent))
