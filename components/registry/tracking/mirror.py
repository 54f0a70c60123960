"""The mirror: copies a stage's journal into MLflow runs, each point once, however often it is killed."""

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
RUN = "gristmill.run"  # on a parent: the token of the pipeline run
CLAIM = "gristmill.claim"  # on a stage's run: written down before the run is made, so that a kill in between makes no second one
CHILD = "gristmill.child"
_METRICS_PER_CALL, _PARAMS_PER_CALL, _BYTES_PER_READ = 1000, 100, 1 << 22


@dataclass(frozen=True)
class Subject:
    """Whose run it is."""

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
    """How far the journal was copied; survives a kill in the stage's state folder."""

    claim: str = field(default_factory=lambda: uuid.uuid4().hex)
    started: int = field(default_factory=_milliseconds)
    offset: int = 0  # bytes of the journal
    steps: dict[str, dict[str, int]] = field(default_factory=dict)  # child -> curve -> highest step


def read_events(path: Path, offset: int) -> tuple[list[dict[str, Any]], int]:
    """The whole lines of a journal from a byte offset on, and the offset behind them. A damaged line is passed over."""
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
    """One stage's run in MLflow: below the pipeline run's, above those of its trials and candidates.

    Every method may be called again after it failed: what is there is found, and what was logged is not logged twice.
    """

    def __init__(self, subject: Subject, journal: Path, state_file: Path) -> None:
        self.subject, self.journal, self.state_file = subject, journal, state_file
        self.progress = _read_progress(state_file)
        self.run = self.parent = ""
        self.children: dict[str, str] = {}
        self.abandoned = False  # the state folder is no longer ours to write to

    def open(self, run_started: int | None = None) -> None:
        """Find or make the parent and the stage's run, and mark both as running.

        Args:
            run_started: milliseconds, of the pipeline run; None: it began with this stage.
        """
        subject = self.subject
        self.client: MlflowClient = client(subject.root)
        self.experiment = experiment(self.client, subject.root, subject.pipeline)
        self._save()
        joined, mine = self._find(RUN, subject.token), self._find(CLAIM, self.progress.claim)
        if mine:
            self.run, self.parent = mine.info.run_id, mine.data.tags[PARENT]
            if joined is None:  # so that the stages that follow a resumed one join its parent
                self.client.set_tag(self.parent, RUN, subject.token)
        else:
            self.progress.offset, self.progress.steps = 0, {}
            self.parent = (
                joined.info.run_id
                if joined
                else self._create(
                    subject.pipeline, {RUN: subject.token}, run_started or self.progress.started
                )
            )
            self.run = self._create(
                subject.stage,
                {CLAIM: self.progress.claim, PARENT: self.parent},
                self.progress.started,
            )
        self.children = {
            run.data.tags[CHILD]: run.info.run_id
            for run in self._search(PARENT, self.run)
            if CHILD in run.data.tags
        }
        for run in (self.parent, self.run):
            self.client.update_run(run, status="RUNNING")
        known = mine.data.params if mine else {}
        self._log_params(
            self.run, {key: value for key, value in subject.params.items() if key not in known}
        )

    def absorb(self) -> bool:
        """Log what the journal has gained. A point at or below the highest logged step of its curve is a repetition by a resumed stage, and dropped.

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
        """Put what came of the whole pipeline into its run: the one that a person sees first in the list of runs."""
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

    def attach(self, path: Path, folder: str = "reports") -> None:
        """Keep a small file with the stage's run."""
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
        found: list[Run] = []
        token: str | None = None
        while token is None or token:
            page = self.client.search_runs(
                [self.experiment], f"tags.`{tag}` = '{value}'", page_token=token
            )
            found, token = [*found, *page], page.token or ""
        return found

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
        made = self.client.create_run(
            self.experiment, start_time=started, run_name=name, tags=all_tags
        )
        return str(made.info.run_id)

    def _run_of(self, child: str) -> str:
        if not child:
            return self.run
        if child not in self.children:
            self.children[child] = self._create(child, {CHILD: child, PARENT: self.run})
        return self.children[child]

    def _log_points(self, run: str, points: Sequence[tuple[str, float, int, int]]) -> None:
        from mlflow.entities import Metric

        for start in range(0, len(points), _METRICS_PER_CALL):
            self.client.log_batch(
                run,
                metrics=[
                    Metric(key, value, time, step)
                    for key, value, time, step in points[start : start + _METRICS_PER_CALL]
                ],
            )

    def _log_params(self, run: str, values: Mapping[str, Any]) -> None:
        from mlflow.entities import Param

        items = list(values.items())
        for start in range(0, len(items), _PARAMS_PER_CALL):
            chunk = items[start : start + _PARAMS_PER_CALL]
            try:
                self.client.log_batch(
                    run, params=[Param(logged_name(key), str(value)[:6000]) for key, value in chunk]
                )
            except Exception as error:  # a resumed stage that reports another value: the first one stays, and takes no other param with it
                if unavailable(error):
                    raise
                for key, value in chunk if len(chunk) > 1 else ():
                    self._log_params(run, {key: value})


def _read_progress(path: Path) -> Progress:
    try:
        return Progress(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):  # none yet, or of another version of gristmill
        return Progress()


def _fresh_points(
    event: Mapping[str, Any], highest: dict[str, int]
) -> list[tuple[str, float, int, int]]:
    points = []
    try:
        step, milliseconds = int(event["step"]), int(event.get("time", time.time()) * 1000)
        for key, value in event["values"].items():
            if step > highest.get(key, -1):
                points.append((logged_name(key), float(value), milliseconds, step))
                highest[key] = step
    except (AttributeError, KeyError, TypeError, ValueError):
        return points  # not an event of ours: curves are worth no failed stage
    return points


def logged_name(key: str) -> str:
    """MLflow takes letters of any script, digits and _ - . space : / in names."""
    return re.sub(r"[^\w\-. :/]", "_", str(key))[:250]
