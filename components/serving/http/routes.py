"""What is answered under which path. (Annotations are no strings here: FastAPI has to see the types that are made at run time.)"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, HTTPException, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse
from fastapi.routing import APIRoute
from fastapi.security import HTTPBearer
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import TypeAdapter, ValidationError
from pydantic_core import from_json, to_json
from starlette.routing import Route

from components.core.bundles import Card
from components.fields.base import Reject
from components.monitoring.request_log import AnswerLogger
from components.serving.http.auth import BUCKET, Drain
from components.serving.http.batching import Batcher
from components.serving.http.explain import CHARACTERS, explain, variants
from components.serving.http.limits import soon
from components.serving.http.messages import (
    Health,
    Limits,
    ModelDescription,
    ModelInfo,
    Part,
    Problem,
    State,
    answer_type,
    explanation_type,
    limited,
    mistakes,
    request_type,
)
from components.serving.http.pages import page
from components.serving.http.request_metrics import ID, Meters, note
from components.serving.params import LimitParams, ServeParams
from components.tasks.base import Explains, TaskEvaluator, evaluator

PROBLEMS: dict[int | str, dict[str, Any]] = {
    400: {"model": Problem, "description": "There is not exactly one Host header"},
    401: {"model": Problem, "description": "A key is needed"},
    403: {"model": Problem, "description": "A page of another origin asks"},
    408: {"model": Problem, "description": "The body did not arrive in time"},
    413: {"model": Problem, "description": "The body is too large"},
    421: {"model": Problem, "description": "The Host header names another service"},
    422: {"model": Problem, "description": "The request is wrong; each mistake by its place"},
    429: {"model": Problem, "description": "The key asks more than it may; see Retry-After"},
    503: {"model": Problem, "description": "Too much waits, or the service ends; see Retry-After"},
    504: {"model": Problem, "description": "No answer in time"},
}


@dataclass(frozen=True)
class AppContext:
    """What the routes share."""

    card: Card
    model: ModelInfo
    params: ServeParams
    batcher: Batcher
    meters: Meters
    door: Drain
    recorder: AnswerLogger | None = None

    @property
    def evaluator(self) -> TaskEvaluator:
        """How the task asks and answers."""
        return evaluator(self.card.task)

    @property
    def explains(self) -> bool:
        """Whether /v1/explain is there."""
        return isinstance(self.evaluator, Explains) and self.params.limits.explained_parts > 0


def open_routes(service: AppContext) -> APIRouter:
    """Those that want no key."""
    router, ref = APIRouter(), service.model.ref

    @router.get("/healthz", summary="Is it alive, and which model answers")
    async def healthz() -> Health:
        return Health(status="ok", model=ref)

    @router.get(
        "/readyz",
        summary="Does it take requests: the model is warm, and the service does not end",
        responses={503: {"model": Health}},
    )
    async def readyz() -> Response:
        status: State = (
            "draining" if service.door.closing else "ok" if service.door.ready else "warming"
        )
        return JSONResponse(
            Health(status=status, model=ref).model_dump(),
            200 if status == "ok" else 503,
            headers={} if status == "ok" else soon(1),
        )

    @router.get("/", include_in_schema=False)
    async def home() -> Response:
        return html("page.html")

    @router.get("/docs", include_in_schema=False)
    async def docs() -> Response:
        return html("docs.html")

    return router


def guarded_routes(
    service: AppContext, guarded: bool, more: Callable[[], bytes] = bytes
) -> APIRouter:
    """Those behind `Guard`.

    Args:
        service: what answers.
        guarded: whether a key is wanted; here only for the schema.
        more: further figures for /metrics.
    """
    router = guarded_router(guarded)
    described, query = (
        _describe(service),
        limited(service.evaluator.Query, service.params.limits.characters),
    )
    asked: Any = request_type(query, service.params.max_items)

    @router.post(
        "/v1/predict",
        summary="Predict",
        response_model=answer_type(service.evaluator.Answer),
        responses=PROBLEMS,
    )
    async def predict(request: Request, body: Annotated[asked, Body()]) -> Any:
        several = hasattr(body, "inputs")
        queries = body.inputs if several else [body]
        outcomes = await _ask(service, request, queries)
        _refuse(outcomes, several)
        unsure = sum(getattr(outcome, "abstained", False) for outcome in outcomes)
        service.meters.predicted(len(outcomes), unsure)
        if service.recorder:
            service.recorder.note(request.scope[ID], queries, outcomes)
        return told({"predictions": outcomes, "model": service.model.ref, "id": request.scope[ID]})

    if service.explains:
        _explaining(router, service)

    @router.get(
        "/v1/model",
        summary="Which model this is, and what it can be asked",
        responses={401: PROBLEMS[401]} if guarded else {},
    )
    async def described_model() -> ModelDescription:
        return described

    @router.get("/metrics", include_in_schema=False)
    async def metrics() -> Response:
        return Response(service.meters.text() + more(), media_type=CONTENT_TYPE_LATEST)

    return router


def guarded_router(guarded: bool) -> APIRouter:
    """One that says in the schema whether a key is wanted; `Guard` is who asks for it."""
    return APIRouter(dependencies=[Depends(HTTPBearer(auto_error=False))] if guarded else [])


def _explaining(router: APIRouter, service: AppContext) -> None:
    rules: Any = service.evaluator
    query: Any = limited(
        rules.Query, min(CHARACTERS, service.params.limits.characters), "Explained"
    )

    @router.post(
        "/v1/explain",
        summary="Predict one item, and tell which of its parts mattered",
        response_model=explanation_type(rules.Answer),
        responses=PROBLEMS,
    )
    async def explained(request: Request, body: Annotated[query, Body()]) -> Any:
        parts = rules.parts(body, service.params.limits.explained_parts)
        outcomes = await _ask(service, request, [body, *variants(rules, body, parts)])
        _refuse(outcomes[:1], several=False)
        weights = explain(
            rules,
            outcomes[0],
            [None if isinstance(each, Reject) else each for each in outcomes[1:]],
        )
        _refuse([each for each in outcomes if not isinstance(each, Reject)], several=False)
        shares = [
            Part(text=part, weight=weight) for part, weight in zip(parts, weights, strict=True)
        ]
        return told(
            {
                "prediction": outcomes[0],
                "parts": shares,
                "model": service.model.ref,
                "id": request.scope[ID],
            }
        )


async def _ask(service: AppContext, request: Request, queries: Sequence[Any]) -> list[Any]:
    limits, waiting = service.params.limits, service.batcher.waiting
    request.scope[BUCKET].charge(len(queries))
    if waiting and waiting + len(queries) > limits.queued_items:
        note(request.scope, "overload")
        raise HTTPException(503, "More is waiting than can be answered in time", soon(1))
    try:
        return await asyncio.wait_for(
            service.batcher.ask(queries), service.params.request_timeout_s
        )
    except TimeoutError:
        raise HTTPException(504, "The model did not answer in time") from None


def _describe(service: AppContext) -> ModelDescription:
    card, limits = service.card, service.params.limits
    schema = limited(service.evaluator.Query, limits.characters).model_json_schema()
    return ModelDescription(
        **service.model.model_dump(),
        title=card.title,
        task=card.task,
        classes=list(card.classes),
        query=schema,
        fields=_filled(schema, card.profile),
        limits=Limits(
            items=service.params.max_items,
            body_bytes=limits.body_bytes,
            characters=limits.characters,
        ),
        explains=service.explains,
    )


def _filled(schema: Mapping[str, Any], profile: Mapping[str, Any]) -> list[str]:
    """Return the properties of an item that a person should be asked for: all but optional ones that were empty in every training row.

    Args:
        schema: of an item.
        profile: what the training inputs looked like; one without fields, of an earlier version, says nothing of any.
    """
    required, fields = schema.get("required", []), profile.get("fields", {})
    seen = {name.partition(".")[0] for name in fields}
    return [name for name in schema["properties"] if name in required or name in seen or not fields]


def told(answer: dict[str, Any], status: int = 200) -> Response:
    """As JSON, at once: what the model said was validated when it was made, and doing it again costs more than a small model."""
    return Response(to_json(answer), status, media_type="application/json")


def _refuse(outcomes: Sequence[Any], several: bool) -> None:
    """Raise for what could not be answered. The reason only: a detail may quote what was sent.

    Args:
        outcomes: answers and errors.
        several: whether the body was `{"inputs": [...]}`, not one item.
    """
    rejected = [
        {"loc": ["body", "inputs", index] if several else ["body"], "msg": outcome.reason}
        for index, outcome in enumerate(outcomes)
        if isinstance(outcome, Reject)
    ]
    for outcome in outcomes:
        if isinstance(outcome, Exception) and not isinstance(outcome, Reject):
            raise outcome
    if rejected:
        raise HTTPException(422, rejected)


def posts(router: APIRouter, limits: LimitParams) -> list[Route]:
    """The POST routes without FastAPI's own handling, which takes longer than a small model; FastAPI's stay for the description.

    Args:
        router: FastAPI's.
        limits: a query's own validators see them as their context.
    """
    context = {"pixels": limits.pixels}
    return [
        Route(route.path, _direct(route, context), methods=["POST"])
        for route in router.routes
        if isinstance(route, APIRoute) and "POST" in (route.methods or ())
    ]


def _direct(
    route: APIRoute, context: Mapping[str, Any]
) -> Callable[[Request], Awaitable[Response]]:
    """JSON by the letter, then the type, then the route: the standard library would let lone surrogates and NaN through, and recurse without end."""
    endpoint, asked = route.endpoint, TypeAdapter[Any](route.endpoint.__annotations__["body"])

    async def direct(request: Request) -> Response:
        if (
            request.headers.get("content-type", "").partition(";")[0].strip().lower()
            != "application/json"
        ):
            raise HTTPException(422, "Send JSON, with the header Content-Type: application/json")
        try:
            body = asked.validate_python(
                from_json(await request.body(), allow_inf_nan=False), context=context
            )
        except ValidationError as error:
            raise HTTPException(
                422, mistakes(error.errors(include_url=False, include_input=False))
            ) from None
        except ValueError as error:
            raise HTTPException(422, f"The body is not JSON: {error}") from None
        answer: Response = await endpoint(request, body)
        return answer

    return direct


def html(name: str) -> HTMLResponse:
    """A page beside this file, under its own policy."""
    text, policy = page(name)
    return HTMLResponse(text, headers={"Content-Security-Policy": policy})
