"""A service that is watched: its answers logged, labels for them taken, and what the latest look found told. (Annotations are no strings here: FastAPI has to see them.)"""

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Body, HTTPException, Request, Response
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from pydantic import Field

from components.core.bundles import Card
from components.core.errors import EnvironmentFault
from components.core.params import Strict
from components.monitoring.feedback import FeedbackStore, Label
from components.monitoring.params import MonitorParams
from components.monitoring.profile_schema import profiler_of
from components.monitoring.request_log import FLUSH_S, Index, Recorder, RequestLog
from components.serving.http import request_ids
from components.serving.http.auth import BUCKET
from components.serving.http.limits import soon
from components.serving.http.messages import Problem
from components.serving.http.routes import PROBLEMS, Service, guarded_router, html, told
from components.tasks.base import evaluator

LATEST, REQUESTS, FEEDBACK = "latest.json", "requests", "feedback"


@dataclass(frozen=True)
class Monitoring:
    """Where a pipeline's service is watched; travels to the replicas."""

    folder: Path  # seen by all nodes with replicas
    params: MonitorParams


class Feedback(Strict):
    """What the answer should have been."""

    id: str = Field(min_length=1, max_length=64, description="The id that the answer came with")
    item: int = Field(0, ge=0, le=10_000, description="Its place among the answer's predictions")
    label: str = Field(
        min_length=1, max_length=200, description="The right one of the model's classes"
    )


class Kept(Strict):
    """The answer to a label."""

    id: str
    item: int
    status: str = "waits for review"


class Monitored(Collector):
    """One replica's share of the watch.

    Args:
        monitoring: where, and its knobs.
        replica: tells its files and figures from others'.
    """

    def __init__(self, monitoring: Monitoring, replica: str = "0") -> None:
        self.folder, self._replica = monitoring.folder, replica
        self.log = RequestLog(self.folder / REQUESTS, monitoring.params, replica)
        self.box = FeedbackStore(self.folder / FEEDBACK, monitoring.params.feedback_rows, replica)
        self._index, self._registry = Index(self.folder / REQUESTS), CollectorRegistry()
        self._mark, self._taking = request_ids.mark(replica), threading.Lock()
        self._registry.register(self)

    def recorder(self, card: Card, version: str) -> Recorder:
        """What a version's app tells the log."""
        rules = evaluator(card.task)
        return Recorder(
            self.log, version, profiler_of(card.task, card.profile), rules.columns, rules.confidence
        )

    def latest(self) -> dict[str, Any]:
        """What the latest look found; nothing before the first."""
        try:
            return dict(json.loads((self.folder / LATEST).read_text(encoding="utf-8")))
        except (OSError, ValueError):
            return {}

    def metrics(self) -> bytes:
        """The Prometheus text format."""
        return generate_latest(self._registry)

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Of prometheus_client."""
        yield _gauge(
            "gristmill_log_rows",
            "Answers written to the request log",
            ["replica"],
            {(self._replica,): self.log.written},
        )
        yield _gauge(
            "gristmill_log_dropped",
            "Answers that the log lost, by reason",
            ["reason", "replica"],
            {(reason, self._replica): count for reason, count in self.log.dropped.items()},
        )
        found = self.latest()
        for kind in ("inputs", "accuracy"):
            findings = {
                (each["field"], str(found["version"])): each
                for each in found.get(kind, {}).get("findings", ())
            }
            yield _gauge(
                f"gristmill_drift_{kind}",
                "Whether the latest look says that it has drifted",
                ["field", "version"],
                {key: each["drifted"] for key, each in findings.items()},
            )
            yield _gauge(
                f"gristmill_drift_{kind}_p",
                "Its p value after Holm's correction",
                ["field", "version"],
                {key: each["adjusted"] for key, each in findings.items()},
            )
        if found:
            yield _gauge(
                "gristmill_drift_windows",
                "Windows that were compared with training",
                ["version"],
                {(str(found["version"]),): found["windows"]},
            )
            yield _gauge(
                "gristmill_drift_alarms",
                "Windows that had drifted",
                ["version"],
                {(str(found["version"]),): found["alarms"]},
            )

    def take(self, given: Feedback) -> Label | str:
        """Keep a label; else why not: "unknown", "elsewhere", "labeled", "full" or "disk"."""
        with (
            self._taking
        ):  # requests come in several threads; neither index nor box is made for that
            if self.log.waits(given.id):
                self.log.flush()
            refused = self.box.refuses((given.id, given.item))
            row = None if refused else self._index.find(given.id, given.item)
            if refused or row is None:
                return refused or (
                    "elsewhere"
                    if request_ids.just_given_elsewhere(given.id, self._mark)
                    else "unknown"
                )
            label = Label(
                given.id,
                given.item,
                given.label,
                time.time(),
                row["version"],
                row["prediction"],
                row["probability"],
                row["input"],
            )
            try:
                self.box.add(label)
            except EnvironmentFault:
                return "disk"
            return label


def _gauge(
    name: str, help_: str, labels: list[str], values: dict[tuple[str, ...], float]
) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, help_, labels=labels)
    for key, value in values.items():
        family.add_metric(list(key), float(value))
    return family


_REFUSED = {
    "unknown": (
        404,
        "No answer of this id and item is in the log: it was not sampled, is too old, or never was",
        None,
    ),
    "elsewhere": (
        503,
        "Another replica gave this answer a moment ago and has not logged it yet",
        soon(FLUSH_S),
    ),
    "labelled": (409, "This answer has a label already", None),
    "full": (503, "As many labels wait for review as may: gristmill feedback", soon(60)),
    "disk": (503, "The label cannot be kept now", soon(60)),
}


def monitor_routes(service: Service, monitored: Monitored, guarded: bool) -> APIRouter:
    """/v1/feedback, /v1/monitor, and the page of it.

    Args:
        service: what answers.
        monitored: of this replica.
        guarded: whether a key is wanted; here only for the schema.
    """
    router, classes = guarded_router(guarded), frozenset(service.card.classes)
    problems: dict[int | str, dict[str, Any]] = {
        status: PROBLEMS[status] for status in (401, 408, 413, 422, 429, 503)
    }
    problems |= {
        404: {"model": Problem, "description": "No such answer is in the log"},
        409: {"model": Problem, "description": "The answer has a label already"},
    }
    problems[503] = {
        "model": Problem,
        "description": "No label can be kept now, or another replica has not logged the answer yet; see Retry-After",
    }

    @router.post(
        "/v1/feedback",
        summary="Say what an answer should have been",
        status_code=202,
        response_model=Kept,
        responses=problems,
    )
    async def feedback(request: Request, body: Annotated[Feedback, Body()]) -> Any:
        request.scope[BUCKET].charge(1)
        if body.label not in classes:
            raise HTTPException(
                422, [{"loc": ["body", "label"], "msg": "is not one of the model's classes"}]
            )
        outcome = await asyncio.to_thread(monitored.take, body)
        if isinstance(outcome, str):
            raise HTTPException(*_REFUSED[outcome])
        return told(Kept(id=outcome.id, item=outcome.item).model_dump(), 202)

    @router.get(
        "/v1/monitor",
        summary="What the latest look at the traffic found",
        responses={401: PROBLEMS[401]} if guarded else {},
    )
    async def looked() -> dict[str, Any]:
        found = {
            "model": service.model.ref.model_dump(),
            **await asyncio.to_thread(monitored.latest),
        }
        if service.params.abstain is not None:
            # Of this replica alone: /metrics has those of all.
            found["answers"] = service.meters.answers()
        return found

    @router.get("/monitor", include_in_schema=False)
    async def page() -> Response:
        return html("monitor.html")

    return router
