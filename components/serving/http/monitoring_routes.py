"""Monitoring of a service: logged answers, their truths, and the latest drift check.

Annotations are no strings in this module: FastAPI has to see them.
"""

import asyncio
import json
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Body, HTTPException, Request, Response
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from pydantic import BaseModel, Field, create_model

from components.core.bundles import Card
from components.core.errors import EnvironmentFault
from components.core.params import Strict
from components.monitoring.feedback_store import FeedbackEntry, FeedbackStore
from components.monitoring.monitor_folder import FEEDBACK, INPUTS, LATEST, REQUESTS, Monitoring
from components.monitoring.profile_schema import profiler_of
from components.monitoring.request_log import FLUSH_S, AnswerLogger, Index, RequestLog
from components.serving.http import request_ids
from components.serving.http.body_limit import retry_after
from components.serving.http.messages import Problem
from components.serving.http.rate_limit import BUCKET
from components.serving.http.routes import (
    PROBLEMS,
    AppContext,
    guarded_router,
    html,
    json_response,
)
from components.tasks.base import evaluator


class AnswerKey(Strict):
    """The answer that feedback is about."""

    id: str = Field(min_length=1, max_length=64, description="The id that the answer came with")
    item: int = Field(0, ge=0, le=10_000, description="Its place among the answer's predictions")


class FeedbackReceipt(Strict):
    """The answer to feedback."""

    id: str
    item: int
    status: str = "waits for review"


class ReplicaMonitor(Collector):
    """The monitoring of one replica.

    Args:
        monitoring: its folder, params and task.
        replica: the part of file names and metrics that tells replicas apart.
    """

    def __init__(self, monitoring: Monitoring, replica: str = "0") -> None:
        self.folder = monitoring.folder
        self.feedback = evaluator(monitoring.task).feedback
        self._replica = replica
        self.log = RequestLog(self.folder / REQUESTS, monitoring.params, replica)
        self.feedback_store = FeedbackStore(
            self.folder / FEEDBACK, monitoring.params.feedback_rows, replica
        )
        self._index = Index(self.folder / REQUESTS)
        self._registry = CollectorRegistry()
        self._mark = request_ids.mark(replica)
        # requests come in several threads; neither index nor store is made for that
        self._lock = threading.Lock()
        self._registry.register(self)

    def recorder(self, card: Card, version: str) -> AnswerLogger:
        """Return what logs the answers of a version.

        Args:
            card: of the version's bundle.
            version: its number.
        """
        profiler = profiler_of(card.task, card.profile)
        return AnswerLogger(self.log, version, profiler, evaluator(card.task))

    def latest(self) -> dict[str, Any]:
        """Return the result of the latest drift check; empty before the first."""
        try:
            return dict(json.loads((self.folder / LATEST).read_text(encoding="utf-8")))
        except (OSError, ValueError):
            return {}

    def metrics(self) -> bytes:
        """Return the Prometheus text format."""
        return generate_latest(self._registry)

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yield the metrics, as prometheus_client asks for them."""
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
        latest = self.latest()
        for kind in (INPUTS, self.feedback.outcome):
            yield from _drift_gauges(kind, latest)
        if latest:
            version = str(latest["version"])
            yield _gauge(
                "gristmill_drift_windows",
                "Windows that were compared with training",
                ["version"],
                {(version,): latest["windows"]},
            )
            yield _gauge(
                "gristmill_drift_alarms",
                "Windows that had drifted",
                ["version"],
                {(version,): latest["alarms"]},
            )

    def take(self, id_: str, item: int, truth: Mapping[str, Any]) -> FeedbackEntry | str:
        """Store a truth that a client sent.

        Args:
            id_: of the request.
            item: the position of the answer in it.
            truth: the fields of the task's `TaskFeedback.Truth`.

        Returns:
            The entry; else why not: "unknown", "elsewhere", "known", "full" or "disk".
        """
        with self._lock:
            if self.log.waits(id_):
                self.log.flush()
            refused = self.feedback_store.refuses((id_, item))
            if refused:
                return refused
            row = self._index.find(id_, item)
            if row is None:
                elsewhere = request_ids.just_given_elsewhere(id_, self._mark)
                return "elsewhere" if elsewhere else "unknown"
            entry = FeedbackEntry(
                id=id_,
                item=item,
                truth=truth,
                when=time.time(),
                version=row["version"],
                prediction=row["prediction"],
                probability=row["probability"],
                input=row["input"],
            )
            try:
                self.feedback_store.add(entry)
            except EnvironmentFault:
                return "disk"
            return entry


def _drift_gauges(kind: str, latest: Mapping[str, Any]) -> Iterator[GaugeMetricFamily]:
    """Yield the metrics of the latest drift check.

    Args:
        kind: "inputs", or the task's `TaskFeedback.outcome`.
        latest: the result of the check; empty before the first.
    """
    rows: dict[tuple[str, ...], Mapping[str, Any]] = {}
    for row in latest.get(kind, {}).get("findings", ()):
        rows[row["field"], str(latest["version"])] = row
    yield _gauge(
        f"gristmill_drift_{kind}",
        "Whether the latest look says that it has drifted",
        ["field", "version"],
        {key: row["drifted"] for key, row in rows.items()},
    )
    yield _gauge(
        f"gristmill_drift_{kind}_p",
        "Its p value after Holm's correction",
        ["field", "version"],
        {key: row["adjusted"] for key, row in rows.items()},
    )


def _gauge(
    name: str, help_: str, keys: list[str], values: dict[tuple[str, ...], float]
) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, help_, labels=keys)
    for key, value in values.items():
        family.add_metric(list(key), float(value))
    return family


def _refusal(reason: str, noun: str) -> HTTPException:
    """Return the HTTP error of a truth that is not stored.

    Args:
        reason: see `ReplicaMonitor.take`.
        noun: what people call a truth.
    """
    refusals: dict[str, tuple[int, str, dict[str, str] | None]] = {
        "unknown": (
            404,
            "No answer of this id and item is in the log: "
            "it was not sampled, is too old, or never was",
            None,
        ),
        "elsewhere": (
            503,
            "Another replica gave this answer a moment ago and has not logged it yet",
            retry_after(FLUSH_S),
        ),
        "known": (409, f"This answer has a {noun} already", None),
        "full": (
            503,
            f"As many {noun}s wait for review as may: gristmill feedback",
            retry_after(60),
        ),
        "disk": (503, f"The {noun} cannot be kept now", retry_after(60)),
    }
    return HTTPException(*refusals[reason])


def monitor_routes(context: AppContext, monitored: ReplicaMonitor, guarded: bool) -> APIRouter:
    """Return the routes /v1/feedback and /v1/monitor, and the page /monitor.

    Args:
        context: of the app.
        monitored: of this replica.
        guarded: whether a key is wanted; here only for the schema.
    """
    router = guarded_router(guarded)
    _add_feedback(router, context, monitored)

    @router.get(
        "/v1/monitor",
        summary="What the latest look at the traffic found",
        responses={401: PROBLEMS[401]} if guarded else {},
    )
    async def looked() -> dict[str, Any]:
        latest = await asyncio.to_thread(monitored.latest)
        body = {"model": context.model.ref.model_dump(), **latest}
        if context.params.abstain is not None:
            # Of this replica alone: /metrics has those of all.
            body["answers"] = context.meters.answers()
        return body

    @router.get("/monitor", include_in_schema=False)
    async def page() -> Response:
        return html("monitor.html", context.evaluator.page_script())

    return router


def _add_feedback(router: APIRouter, context: AppContext, monitored: ReplicaMonitor) -> None:
    rules = context.evaluator.feedback
    body_type: Any = feedback_type(rules.Truth)
    truth_fields = frozenset(rules.Truth.model_fields)

    @router.post(
        "/v1/feedback",
        summary="Say what an answer should have been",
        status_code=202,
        response_model=FeedbackReceipt,
        responses=_feedback_problems(rules.noun),
    )
    async def feedback(request: Request, body: Annotated[body_type, Body()]) -> Any:
        request.scope[BUCKET].charge(1)
        mistake = rules.check(body, context.card.targets)
        if mistake:
            field, message = mistake
            raise HTTPException(422, [{"loc": ["body", field], "msg": message}])
        truth = body.model_dump(mode="json", include=truth_fields)
        outcome = await asyncio.to_thread(monitored.take, body.id, body.item, truth)
        if isinstance(outcome, str):
            raise _refusal(outcome, rules.noun)
        return json_response(FeedbackReceipt(id=outcome.id, item=outcome.item).model_dump(), 202)


def feedback_type(truth: type[BaseModel]) -> type[BaseModel]:
    """Return the type of the body of /v1/feedback: the key of an answer, then the truth."""
    # The fields of the last base come first.
    bases = (truth, AnswerKey)
    return create_model("Feedback", __base__=bases, __doc__="What the answer should have been.")


def _feedback_problems(noun: str) -> dict[int | str, dict[str, Any]]:
    problems: dict[int | str, dict[str, Any]] = {
        status: PROBLEMS[status] for status in (401, 408, 413, 422, 429, 503)
    }
    problems[404] = {"model": Problem, "description": "No such answer is in the log"}
    problems[409] = {"model": Problem, "description": f"The answer has a {noun} already"}
    problems[503] = {
        "model": Problem,
        "description": (
            f"No {noun} can be kept now, or another replica has not logged the answer yet; "
            "see Retry-After"
        ),
    }
    return problems
