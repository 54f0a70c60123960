"""A study: what its trials found, as small files. A search that is killed or extended goes on with it, and computes no epoch twice."""

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

STUDIES = "studies"  # beside the states of searches that did not end
_KEPT = 20
OUTCOME, FAILURE = "outcome.json", "failure.json"
_VALUES, _ROWS, _FACTS, _SPENT, _FIRST = (
    "values.json",
    "rows.json",
    "study.json",
    "spent.json",
    "first.json",
)
Row = dict[str, float]
Outcome = Literal["finished", "stopped", "failed"]


@dataclass
class Trial:
    """A trial: a row of figures per epoch, and how it ended."""

    number: int
    values: Values
    rows: list[Row] = field(default_factory=list)
    outcome: Outcome | None = None  # None: it has not ended
    error: str = ""


@dataclass(frozen=True)
class Watched:
    """The column that steers a search."""

    name: str
    goal: Literal["min", "max"]

    def score(self, row: Row) -> float:
        """The higher the better."""
        return row[self.name] if self.goal == "max" else -row[self.name]

    def best(self, rows: list[Row]) -> float:
        """The best figure of some rows."""
        return max(rows, key=self.score)[self.name]


class Study:
    """The trials of a search, in the state folder of its stage; the folder's name is what their results depend on."""

    def __init__(self, job: Job) -> None:
        self.state, self.journal = job.state, job.journal
        self.facts = _facts(job)
        self.trials: dict[int, Trial] = {}
        self.first_tried: list[Values] | None = None  # by a warm start; None: it was not asked for
        self._writer: ThreadPoolExecutor | None = None
        self._writing: deque[Future[None]] = deque()
        self.spent = (
            float(json.loads((self.state / _SPENT).read_text()))
            if (self.state / _SPENT).exists()
            else 0.0
        )  # seconds of search in earlier lives
        self._unpack()
        self.before = sum(trial.outcome is not None for trial in self.trials.values())

    def folder(self, number: int) -> Path:
        """Where a trial has its state."""
        return self.state / "trials" / f"{number:04d}"

    def welcome(self, wanted: int) -> str:
        """One line: goes on or is new, and why."""
        name = self.state.name[:6]
        if self.trials:
            done = sum(trial.outcome is not None for trial in self.first(wanted))
            return f"going on with study {name}: {done} of {wanted} trials are finished already and are not run again; {wanted - done} more"
        others = [
            *self.state.parent.glob(f"{STUDIES}/*.json"),
            *self.state.parent.glob(f"*/{_FACTS}"),
        ]
        others = [path for path in others if self.state.name not in (path.stem, path.parent.name)]
        if not others:
            return f"a new study {name}: the first of this pipeline"
        newest = max(others, key=lambda path: path.stat().st_mtime_ns)
        facts: dict[str, Any] = json.loads(newest.read_text(encoding="utf-8"))["facts"]
        changed = sorted(
            key for key in {*facts, *self.facts} if facts.get(key) != self.facts.get(key)
        ) or ["the code of net, loss or encoder"]
        return f"a new study {name}: {', '.join(changed[:4])} changed{' (and more)' if len(changed) > 4 else ''}"

    def first(self, wanted: int) -> list[Trial]:
        """The known ones among the first trials."""
        return [trial for number, trial in sorted(self.trials.items()) if number < wanted]

    def try_first(self, values: list[Values]) -> None:
        """Write down what a warm start has chosen, nothing included, before the first trial begins."""
        write_atomic(self.state / _FIRST, to_json(values))
        self.first_tried = values

    def begin(self, number: int, values: Values) -> Trial:
        """Write down what a trial is, before it runs."""
        self.folder(number).mkdir(parents=True, exist_ok=True)
        if not (self.state / _FACTS).exists():
            write_atomic(self.state / _FACTS, to_json({"facts": self.facts}))
        self._write(self.folder(number) / _VALUES, values)
        self.trials[number] = Trial(number, values)
        self.journal.params(values, child=_name(number))
        return self.trials[number]

    def add(self, number: int, row: Row) -> None:
        """A row of a trial, unless it is known: one that goes on tells all that it has."""
        trial = self.trials[number]
        if trial.outcome or (trial.rows and row["epoch"] != trial.rows[-1]["epoch"] + 1):
            return
        trial.rows.append(row)
        self._write(self.folder(number) / _ROWS, trial.rows)
        self.journal.metrics(row, step=int(row["epoch"]), child=_name(number))

    def end(self, number: int, outcome: Outcome, error: str = "") -> None:
        """How a trial ended."""
        trial = self.trials[number]
        trial.outcome, trial.error = outcome, error
        self._write(self.folder(number) / OUTCOME, {"outcome": outcome, "error": error})
        if error:
            self.journal.log(f"trial {number} failed: {error}")

    def failure(self, number: int) -> str:
        """What a trial raised, as its worker wrote it down; empty if nothing."""
        path = self.folder(number) / FAILURE
        return str(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else ""

    def clear(self, number: int) -> None:
        """Drop the checkpoints and weights of a trial: the best one is refitted, so nobody asks for them."""
        folder = self.folder(number)
        for path in folder.glob("*"):
            if path.name in (_VALUES, _ROWS, OUTCOME) or path.name.startswith("."):
                continue
            if path.is_dir():
                remove_tree(path, within=folder)
            else:
                path.unlink(missing_ok=True)

    def spend(self, seconds: float) -> None:
        """Write down how long the search has taken so far, all its lives together."""
        write_atomic(self.state / _SPENT, to_json(seconds))

    def close(self) -> None:
        """Keep the record of the ended trials when the state goes; the newest studies only."""
        folder = self.state.parent / STUDIES
        ended = [vars(trial) for _, trial in sorted(self.trials.items()) if trial.outcome]
        write_atomic(
            folder / f"{self.state.name}.json",
            to_json({"facts": self.facts, "trials": ended, "first_tried": self.first_tried}),
        )
        for path in sorted(
            folder.glob("*.json"), key=lambda path: path.stat().st_mtime_ns, reverse=True
        )[_KEPT:]:
            path.unlink(missing_ok=True)

    @contextmanager
    def behind(self) -> Iterator[None]:
        """Write in a thread, in order, while the block runs: workers that are free shall not wait for the disk.

        Raises:
            EnvironmentFault: something could not be written; while the block runs, the write that follows raises it.
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
        """Tune copies what it is given as a stopper."""
        return {**vars(self), "_writer": None, "_writing": deque()}

    def _write(self, path: Path, value: Any) -> None:
        if self._writer is None:
            write_atomic(path, to_json(value))
            return
        while self._writing and self._writing[0].done():
            self._writing.popleft().result()
        self._writing.append(self._writer.submit(write_atomic, path, to_json(value)))

    def _unpack(self) -> None:
        """Read the trials of an earlier life, and those that a finished search has left."""
        for folder in sorted((self.state / "trials").glob("*")):
            if (folder / _VALUES).exists():
                rows, told = (
                    json.loads((folder / name).read_text(encoding="utf-8"))
                    if (folder / name).exists()
                    else {}
                    for name in (_ROWS, OUTCOME)
                )
                self.trials[int(folder.name)] = Trial(
                    int(folder.name),
                    json.loads((folder / _VALUES).read_text(encoding="utf-8")),
                    rows or [],
                    **told,
                )
        path = self.state.parent / STUDIES / f"{self.state.name}.json"
        record: dict[str, Any] = (
            json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        )
        first = self.state / _FIRST
        self.first_tried = (
            json.loads(first.read_text(encoding="utf-8"))
            if first.exists()
            else record.get("first_tried")
        )
        for told in record.get("trials", []):
            if told["number"] not in self.trials or len(self.trials[told["number"]].rows) < len(
                told["rows"]
            ):
                self.begin(told["number"], told["values"])
                for row in told["rows"]:
                    self.add(told["number"], row)
                self.end(told["number"], told["outcome"], told["error"])


def _name(number: int) -> str:
    return f"trial-{number:04d}"


def _facts(job: Job) -> dict[str, Any]:
    """What a study depends on and a person can change, for the line that says what was changed; long values as hashes."""
    budget = job.params.budget
    sections: Mapping[str, Any] = {
        "tune": job.params.model_dump(mode="json", exclude=budget),
        **{
            name: section.model_dump(mode="json")
            for name, section in job.sections.items()
            if name != "tune"
        },
    }
    knobs = {
        f"{name}.{key}": value for name, tree in sections.items() for key, value in tree.items()
    }
    return {
        "the data": sha256(job.inputs["tokens"] / MANIFEST),
        "seed": job.seed,
        "task": job.task,
        **{
            key: hashlib.sha256(to_json(value).encode()).hexdigest()[:16]
            for key, value in knobs.items()
        },
    }
