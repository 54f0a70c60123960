"""The mirror: copies a stage's journal into MLflow runs.

Each point is copied once, however often the process is killed.
"""

from __future__ import annotations

import json
import re
import time
import uuid
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.core.files import to_json, write_atomic
from components.registry.store.tracking_store import client, experiment, unavailable

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

PARENT = "mlflow.parentRunId"
# on a parent: the token of the pipeline run
RUN = "gristmill.run"
# on a stage's run: written to the state file before the run is made, so that a kill in between
# makes no second run
CLAIM = "gristmill.claim"
CHILD = "gristmill.child"
_CONTEXT = "mlflow.data.context"
_METRICS_PER_CALL = 1000
_PARAMS_PER_CALL = 100
_BYTES_PER_READ = 1 << 22


@dataclass(frozen=True)
class Subject:
    """The stage whose run is mirrored."""

    root: Path
    pipeline: str
    stage: str
    token: str  # one per pipeline run
    tags: Mapping[str, str]
    params: Mapping[str, Any]


def _milliseconds() -> int:
    """Return the time since the epoch as MLflow writes it."""
    return int(time.time() * 1000)


@dataclass
class Progress:
    """How far the journal was copied. It survives a kill in the stage's state folder."""

    claim: str = field(default_factory=lambda: uuid.uuid4().hex)
    started: int = field(default_factory=_milliseconds)
    offset: int = 0  # bytes of the journal
    steps: dict[str, dict[str, int]] = field(default_factory=dict)  # child -> curve -> highest step


def read_events(path: Path, offset: int) -> tuple[list[dict[str, Any]], int]:
    """Return the whole lines of a journal from an offset on, and the offset behind them.

    Damaged lines are skipped.

    Args:
        path: of the journal.
        offset: in bytes.
    """
    if not path.is_file():
        return [], offset
    with path.open("rb") as stream:
        stream.seek(offset)
        block = stream.read(_BYTES_PER_READ)
    block = block[: block.rfind(b"\n") + 1]
    events = []
    for line in block.splitlines():
        try:
            event = json.loads(line)
        except ValueError:
            continue
        if isinstance(event, dict):
            events.append(event)
    return events, offset + len(block)


class Mirror:
    """The run of one stage in MLflow.

    It is a child of the pipeline run's, and the parent of those of its trials and candidates. Every
    method may be called again after it failed: what exists is found, and nothing is logged twice.

    Args:
        subject: the stage.
        journal: of the stage.
        state_file: how far the journal was copied.
    """

    def __init__(self, subject: Subject, journal: Path, state_file: Path) -> None:
        self.subject = subject
        self.journal = journal
        self.state_file = state_file
        self.progress = _read_progress(state_file)
        self.run = ""
        self.parent = ""
        self.children: dict[str, str] = {}
        # the state folder is no longer ours to write to
        self.abandoned = False

    def open(self, run_started: int | None = None) -> None:
        """Find or make the parent and the stage's run, and mark both as running.

        Args:
            run_started: milliseconds, of the pipeline run; None: it began with this stage.
        """
        subject = self.subject
        self.client: MlflowClient = client(subject.root)
        self.experiment = experiment(self.client, subject.root, subject.pipeline)
        self._save()
        joined = self._find(RUN, subject.token)
        mine = self._find(CLAIM, self.progress.claim)
        if mine:
            self.run = mine.info.run_id
            self.parent = mine.data.tags[PARENT]
            # so that the stages that follow a resumed one join its parent
            if joined is None:
                self.client.set_tag(self.parent, RUN, subject.token)
        else:
            self._create_runs(joined, run_started)
        self.children = {
            run.data.tags[CHILD]: run.info.run_id
            for run in self._search(PARENT, self.run)
            if CHILD in run.data.tags
        }
        for run in (self.parent, self.run):
            self.client.update_run(run, status="RUNNING")
        logged = mine.data.params if mine else {}
        new = {key: value for key, value in subject.params.items() if key not in logged}
        self._log_params(self.run, new)

    def _create_runs(self, joined: Run | None, run_started: int | None) -> None:
        """Make the stage's run, and its parent if the pipeline run has none yet."""
        subject = self.subject
        self.progress.offset = 0
        self.progress.steps = {}
        if joined:
            self.parent = joined.info.run_id
        else:
            started = run_started or self.progress.started
            self.parent = self._create(subject.pipeline, {RUN: subject.token}, started)
        tags = {CLAIM: self.progress.claim, PARENT: self.parent}
        self.run = self._create(subject.stage, tags, self.progress.started)

    def absorb(self) -> bool:
        """Log the new events of the journal.

        A point at or below the highest logged step of its curve is a repetition by a resumed stage.
        It is dropped.

        Returns:
            Whether there may be more.
        """
        events, end = read_events(self.journal, self.progress.offset)
        steps = {child: dict(curves) for child, curves in self.progress.steps.items()}
        points: dict[str, list[tuple[str, float, int, int]]] = defaultdict(list)
        params: dict[str, dict[str, Any]] = defaultdict(dict)
        for event in events:
            child = str(event.get("child", ""))
            if event.get("kind") == "metrics":
                points[child] += _fresh_points(event, steps.setdefault(child, {}))
            elif event.get("kind") == "params" and isinstance(event.get("values"), dict):
                params[child].update(event["values"])
            elif event.get("kind") == "result":
                self._log_result(event)
            elif event.get("kind") == "dataset":
                self._log_dataset(event)
        for child, values in params.items():
            self._log_params(self._run_of(child), values)
        for child, rows in points.items():
            self._log_points(self._run_of(child), rows)
        moved = end > self.progress.offset
        self.progress.offset, self.progress.steps = end, steps
        if moved:
            self._save()
        return moved

    def _log_result(self, event: Mapping[str, Any]) -> None:
        """Log the result of the pipeline to its run, which people see first in the list of runs."""
        from mlflow.entities import Metric, RunTag

        tags = [
            RunTag(logged_name(key), str(value)[:5000])
            for key, value in dict(event.get("tags") or {}).items()
        ]
        milliseconds = int(event.get("time", time.time()) * 1000)
        metrics = [
            Metric(logged_name(key), float(value), milliseconds, 0)
            for key, value in dict(event.get("metrics") or {}).items()
        ]
        self.client.log_batch(self.parent, metrics=metrics, tags=tags)

    def _log_dataset(self, event: Mapping[str, Any]) -> None:
        """Log the dataset of the stage to its run and to that of the pipeline."""
        from mlflow.entities import Dataset, DatasetInput, InputTag

        dataset = Dataset(name=self.subject.pipeline, **event["values"])
        logged = DatasetInput(dataset, [InputTag(_CONTEXT, self.subject.stage)])
        for run in (self.run, self.parent):
            self.client.log_inputs(run, datasets=[logged])

    def attach(self, path: Path, folder: str = "reports") -> None:
        """Attach a small file to the stage's run.

        Args:
            path: of the file.
            folder: of the artifacts.
        """
        self.client.log_artifact(self.run, str(path), folder)

    def go_on(self) -> None:
        """Mark the pipeline run as running again, after an earlier stage of it was written."""
        self.client.update_run(self.parent, status="RUNNING")

    def close(self, status: str, ended: int | None = None) -> None:
        """Mark the children, the stage's run and the pipeline run as FINISHED, FAILED or KILLED.

        Args:
            status: of all of them.
            ended: milliseconds; None: now.
        """
        for run in (*self.children.values(), self.run, self.parent):
            self.client.set_terminated(run, status, ended)

    def _save(self) -> None:
        if not self.abandoned:
            write_atomic(self.state_file, to_json(asdict(self.progress)))

    def _search(self, tag: str, value: str) -> list[Run]:
        runs: list[Run] = []
        token: str | None = None
        while token is None or token:
            page = self.client.search_runs(
                [self.experiment], f"tags.`{tag}` = '{value}'", page_token=token
            )
            runs += page
            token = page.token or ""
        return runs

    def _find(self, tag: str, value: str) -> Run | None:
        return next(iter(self._search(tag, value)), None)

    def _create(self, name: str, tags: Mapping[str, str], started: int | None = None) -> str:
        stage = {} if RUN in tags else {"gristmill.stage": self.subject.stage}
        all_tags = {
            **self.subject.tags,
            "gristmill.pipeline": self.subject.pipeline,
            **stage,
            **tags,
        }
        run = self.client.create_run(
            self.experiment, start_time=started, run_name=name, tags=all_tags
        )
        return str(run.info.run_id)

    def _run_of(self, child: str) -> str:
        if not child:
            return self.run
        if child not in self.children:
            self.children[child] = self._create(child, {CHILD: child, PARENT: self.run})
        return self.children[child]

    def _log_points(self, run: str, points: Sequence[tuple[str, float, int, int]]) -> None:
        from mlflow.entities import Metric

        for start in range(0, len(points), _METRICS_PER_CALL):
            chunk = points[start : start + _METRICS_PER_CALL]
            metrics = [Metric(key, value, time, step) for key, value, time, step in chunk]
            self.client.log_batch(run, metrics=metrics)

    def _log_params(self, run: str, values: Mapping[str, Any]) -> None:
        from mlflow.entities import Param

        items = list(values.items())
        for start in range(0, len(items), _PARAMS_PER_CALL):
            chunk = items[start : start + _PARAMS_PER_CALL]
            try:
                params = [Param(logged_name(key), str(value)[:6000]) for key, value in chunk]
                self.client.log_batch(run, params=params)
            except Exception as error:
                if unavailable(error):
                    raise
                # A resumed stage reports another value. The first value stays, and no other param
                # of the call is lost.
                if len(chunk) > 1:
                    for key, value in chunk:
                        self._log_params(run, {key: value})


def _read_progress(path: Path) -> Progress:
    try:
        return Progress(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):  # none yet, or of another version of gristmill
        return Progress()


def _fresh_points(
    event: Mapping[str, Any], highest: dict[str, int]
) -> list[tuple[str, float, int, int]]:
    """Return the points of an event that were not logged: (name, value, milliseconds, step).

    Args:
        event: of kind "metrics".
        highest: curve -> highest step that was logged; brought up to date.
    """
    points = []
    try:
        step = int(event["step"])
        milliseconds = int(event.get("time", time.time()) * 1000)
        for key, value in event["values"].items():
            if step > highest.get(key, -1):
                points.append((logged_name(key), float(value), milliseconds, step))
                highest[key] = step
    except (AttributeError, KeyError, TypeError, ValueError):
        # not an event of ours: no stage may fail because of a curve
        return points
    return points


def logged_name(key: str) -> str:
    """Return a name as MLflow accepts it: letters of any script, digits and _ - . space : /"""
    return re.sub(r"[^\w\-. :/]", "_", str(key))[:250]
