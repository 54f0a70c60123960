"""A study: the results of the trials of a search, as small files.

A search that is killed or extended goes on with its study, and computes no epoch twice.
"""

from __future__ import annotations

import hashlib
import json
from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from components.core.files import remove_tree, sha256, to_json, write_atomic
from components.core.job import Job
from components.core.tables import MANIFEST
from components.stages.tune.search_space import Values

# Folder of closed studies, beside the states of searches that did not end.
STUDIES = "studies"
# Number of closed studies that are not deleted.
_CLOSED_STUDIES = 20
# Changed params that a message names.
_NAMED_CHANGES = 4
OUTCOME = "outcome.json"
FAILURE = "failure.json"
_VALUES = "values.json"
_ROWS = "rows.json"
_STUDY_FILE = "study.json"
_SPENT = "spent.json"
_FIRST = "first.json"
Row = dict[str, float]
Outcome = Literal["finished", "stopped", "failed"]


@dataclass
class Trial:
    """A trial of a search.

    Args:
        number: from 0.
        values: its params.
        rows: metrics of each epoch.
        outcome: how it ended; None if it has not ended.
        error: message of a trial that failed.
    """

    number: int
    values: Values
    rows: list[Row] = field(default_factory=list)
    outcome: Outcome | None = None
    error: str = ""


@dataclass(frozen=True)
class MonitoredMetric:
    """The metric that steers a search.

    Args:
        name: its column in the rows of a trial.
        goal: whether a small or a large value is good.
    """

    name: str
    goal: Literal["min", "max"]

    def score(self, row: Row) -> float:
        """Return the score of a row, the higher the better."""
        return row[self.name] if self.goal == "max" else -row[self.name]

    def best(self, rows: list[Row]) -> float:
        """Return the best value of the metric in some rows."""
        return max(rows, key=self.score)[self.name]


class Study:
    """Trials of a search, in the state folder of its stage.

    The name of the folder is a hash of all that the results depend on.

    Args:
        job: tune.
    """

    def __init__(self, job: Job) -> None:
        self.state = job.state
        self.journal = job.journal
        self.inputs = _inputs(job)
        self.trials: dict[int, Trial] = {}
        # Values of the first trials, by a warm start; None if none was asked for.
        self.first_tried: list[Values] | None = None
        self._writer: ThreadPoolExecutor | None = None
        self._writing: deque[Future[None]] = deque()
        # Seconds that earlier runs of this search took.
        self.spent = float(_read_json(self.state / _SPENT, 0.0))
        self._read()
        self.before = sum(trial.outcome is not None for trial in self.trials.values())

    def folder(self, number: int) -> Path:
        """Return the state folder of a trial."""
        return self.state / "trials" / f"{number:04d}"

    def welcome(self, wanted: int) -> str:
        """Return a message: whether the study goes on or is new, and why.

        Args:
            wanted: number of trials.
        """
        name = self.state.name[:6]
        if self.trials:
            done = sum(trial.outcome is not None for trial in self.first(wanted))
            return (
                f"going on with study {name}: {done} of {wanted} trials are finished already "
                f"and are not run again; {wanted - done} more"
            )
        newest = self._newest_other()
        if newest is None:
            return f"a new study {name}: the first of this pipeline"
        changed = self._changes(json.loads(newest.read_text(encoding="utf-8"))["facts"])
        names = ", ".join(changed[:_NAMED_CHANGES])
        more = " (and more)" if len(changed) > _NAMED_CHANGES else ""
        return f"a new study {name}: {names} changed{more}"

    def _newest_other(self) -> Path | None:
        """Return the newest record of another study, if there is one."""
        closed = self.state.parent.glob(f"{STUDIES}/*.json")
        open_studies = self.state.parent.glob(f"*/{_STUDY_FILE}")
        others = []
        for path in [*closed, *open_studies]:
            if self.state.name not in (path.stem, path.parent.name):
                others.append(path)
        return max(others, key=lambda path: path.stat().st_mtime_ns, default=None)

    def _changes(self, other: Mapping[str, Any]) -> list[str]:
        """Return the names of what differs from another study."""
        names = {*other, *self.inputs}
        changed = sorted(name for name in names if other.get(name) != self.inputs.get(name))
        return changed or ["the code of net, loss or encoder"]

    def first(self, wanted: int) -> list[Trial]:
        """Return the trials with a number below a limit that have begun."""
        return [trial for number, trial in sorted(self.trials.items()) if number < wanted]

    def try_first(self, values: list[Values]) -> None:
        """Write the values that a warm start has chosen, even if there are none.

        Args:
            values: of the first trials, before the first of them begins.
        """
        write_atomic(self.state / _FIRST, to_json(values))
        self.first_tried = values

    def begin(self, number: int, values: Values) -> Trial:
        """Write the values of a trial before it runs, and return the trial."""
        self.folder(number).mkdir(parents=True, exist_ok=True)
        if not (self.state / _STUDY_FILE).exists():
            write_atomic(self.state / _STUDY_FILE, to_json({"facts": self.inputs}))
        self._write(self.folder(number) / _VALUES, values)
        self.trials[number] = Trial(number, values)
        self.journal.params(values, child=_name(number))
        return self.trials[number]

    def add(self, number: int, row: Row) -> None:
        """Add a row to a trial, unless the trial has it: one that goes on reports all rows."""
        trial = self.trials[number]
        if trial.outcome:
            return
        if trial.rows and row["epoch"] != trial.rows[-1]["epoch"] + 1:
            return
        trial.rows.append(row)
        self._write(self.folder(number) / _ROWS, trial.rows)
        self.journal.metrics(row, step=int(row["epoch"]), child=_name(number))

    def end(self, number: int, outcome: Outcome, error: str = "") -> None:
        """Write how a trial ended.

        Args:
            number: of the trial.
            outcome: how it ended.
            error: message of a trial that failed.
        """
        trial = self.trials[number]
        trial.outcome = outcome
        trial.error = error
        self._write(self.folder(number) / OUTCOME, {"outcome": outcome, "error": error})
        if error:
            self.journal.log(f"trial {number} failed: {error}")

    def failure(self, number: int) -> str:
        """Return the error that a trial's worker has written; empty if there is none."""
        return str(_read_json(self.folder(number) / FAILURE, ""))

    def clear(self, number: int) -> None:
        """Delete the checkpoints and weights of a trial. They are not needed: the best is refitted.

        Args:
            number: of the trial.
        """
        folder = self.folder(number)
        for path in folder.glob("*"):
            if path.name in (_VALUES, _ROWS, OUTCOME) or path.name.startswith("."):
                continue
            if path.is_dir():
                remove_tree(path, within=folder)
            else:
                path.unlink(missing_ok=True)

    def spend(self, seconds: float) -> None:
        """Write how long the search has taken so far, in all its runs."""
        write_atomic(self.state / _SPENT, to_json(seconds))

    def close(self) -> None:
        """Write the record of the ended trials, which stays when the state folder is deleted.

        Only the records of the newest studies stay.
        """
        folder = self.state.parent / STUDIES
        ended = [vars(trial) for _, trial in sorted(self.trials.items()) if trial.outcome]
        record = {"facts": self.inputs, "trials": ended, "first_tried": self.first_tried}
        write_atomic(folder / f"{self.state.name}.json", to_json(record))
        newest_first = sorted(
            folder.glob("*.json"),
            key=lambda path: path.stat().st_mtime_ns,
            reverse=True,
        )
        for path in newest_first[_CLOSED_STUDIES:]:
            path.unlink(missing_ok=True)

    @contextmanager
    def behind(self) -> Iterator[None]:
        """Write in a thread, in order, while the block runs, so that workers do not wait.

        Raises:
            EnvironmentFault: something could not be written. While the block runs, the next write
                raises it.
        """
        with ThreadPoolExecutor(1, thread_name_prefix="study") as self._writer:
            try:
                yield
            finally:
                self._writer.shutdown()
                self._writer = None
        while self._writing:
            self._writing.popleft().result()

    def __getstate__(self) -> dict[str, Any]:
        """Return the state without the thread: Tune copies a stopper."""
        return {**vars(self), "_writer": None, "_writing": deque()}

    def _write(self, path: Path, value: Any) -> None:
        """Write a value as JSON: in the thread if there is one."""
        if self._writer is None:
            write_atomic(path, to_json(value))
            return
        while self._writing and self._writing[0].done():
            self._writing.popleft().result()
        self._writing.append(self._writer.submit(write_atomic, path, to_json(value)))

    def _read(self) -> None:
        """Read the trials of an earlier run, and those of the record of a closed study."""
        for folder in sorted((self.state / "trials").glob("*")):
            if (folder / _VALUES).exists():
                trial = _read_trial(folder)
                self.trials[trial.number] = trial
        record: dict[str, Any] = _read_json(
            self.state.parent / STUDIES / f"{self.state.name}.json", {}
        )
        self.first_tried = _read_json(self.state / _FIRST, record.get("first_tried"))
        for recorded in record.get("trials", []):
            self._restore(recorded)

    def _restore(self, recorded: Mapping[str, Any]) -> None:
        """Take a trial from the record, unless its folder has as many rows."""
        number = recorded["number"]
        trial = self.trials.get(number)
        if trial is not None and len(trial.rows) >= len(recorded["rows"]):
            return
        self.begin(number, recorded["values"])
        for row in recorded["rows"]:
            self.add(number, row)
        self.end(number, recorded["outcome"], recorded["error"])


def _read_trial(folder: Path) -> Trial:
    """Return the trial of a state folder."""
    rows = _read_json(folder / _ROWS, {})
    ending = _read_json(folder / OUTCOME, {})
    values = json.loads((folder / _VALUES).read_text(encoding="utf-8"))
    return Trial(int(folder.name), values, rows or [], **ending)


def _read_json(path: Path, default: Any) -> Any:
    """Return the value of a JSON file, or a default if the file does not exist."""
    if not path.exists():
        return default
    return json.loads(path.read_text(encoding="utf-8"))


def _name(number: int) -> str:
    """Return the name of a trial's MLflow run."""
    return f"trial-{number:04d}"


def _inputs(job: Job) -> dict[str, Any]:
    """Return what a study depends on and a person can change; values of params as hashes.

    The message of a new study names what differs.
    """
    sections: dict[str, Mapping[str, Any]] = {
        "tune": job.params.model_dump(mode="json", exclude=job.params.budget)
    }
    for name, section in job.sections.items():
        if name != "tune":
            sections[name] = section.model_dump(mode="json")
    inputs = {
        "the data": sha256(job.inputs["tokens"] / MANIFEST),
        "seed": job.seed,
        "task": job.task,
    }
    for name, params in sections.items():
        for key, value in params.items():
            digest = hashlib.sha256(to_json(value).encode()).hexdigest()
            inputs[f"{name}.{key}"] = digest[:16]
    return inputs
