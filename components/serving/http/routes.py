"""The routes of the service.

Annotations are no strings in this module: FastAPI has to see the types that are made at run time.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, HTTPException, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse
from fastapi.routing import APIRoute
from fastapi.security import HTTPBearer
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic_core import from_json, to_json
from starlette.routing import Route

from components.core.bundles import Card
from components.fields.base import Reject
from components.inference.explanations.occlusion import CHARACTERS, explain, variants
from components.monitoring.request_log import AnswerLogger
from components.serving.http.batching import Batcher
from components.serving.http.body_limit import retry_after
from components.serving.http.drain import Drain
from components.serving.http.messages import (
    Health,
    Limits,
    ModelInfo,
    Part,
    Problem,
    State,
    answer_type,
    description_type,
    explanation_type,
    limited,
    mistakes,
    request_type,
)
from components.serving.http.pages import page
from components.serving.http.rate_limit import BUCKET
from components.serving.http.request_metrics import ID, Meters, set_refusal_reason
from components.serving.params import LimitParams, ServeParams
from components.tasks.base import DescribesQueries, Explains, TaskEvaluator, evaluator
from components.tasks.base import schema as task_schema

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
    """The parts of an app that its routes share."""

    card: Card
    model: ModelInfo
    params: ServeParams
    batcher: Batcher
    meters: Meters
    drain: Drain
    recorder: AnswerLogger | None = None

    @property
    def evaluator(self) -> TaskEvaluator:
        """Return the task's types of queries and answers, and its rules."""
        return evaluator(self.card.task)

    @property
    def explains(self) -> bool:
        """Return whether the app has the path /v1/explain."""
        return isinstance(self.evaluator, Explains) and self.params.limits.explained_parts > 0

    def state(self) -> State:
        """Return the state of the service, as /readyz shows it."""
        if self.drain.closing:
            return "draining"
        if self.drain.ready:
            return "ok"
        return "warming"


def open_routes(context: AppContext) -> APIRouter:
    """Return the routes that want no key."""
    router = APIRouter()
    ref = context.model.ref

    @router.get("/healthz", summary="Is it alive, and which model answers")
    async def healthz() -> Health:
        return Health(status="ok", model=ref)

    @router.get(
        "/readyz",
        summary="Does it take requests: the model is warm, and the service does not end",
        responses={503: {"model": Health}},
    )
    async def readyz() -> Response:
        status = context.state()
        body = Health(status=status, model=ref).model_dump()
        if status == "ok":
            return JSONResponse(body, 200, headers={})
        return JSONResponse(body, 503, headers=retry_after(1))

    @router.get("/", include_in_schema=False)
    async def home() -> Response:
        return html("page.html", context.evaluator.page_script())

    @router.get("/docs", include_in_schema=False)
    async def docs() -> Response:
        return html("docs.html")

    return router


def guarded_routes(
    context: AppContext, guarded: bool, more: Callable[[], bytes] = bytes
) -> APIRouter:
    """Return the routes behind `Guard`.

    Args:
        context: of the app.
        guarded: whether a key is wanted; here only for the schema.
        more: returns more metrics for /metrics.
    """
    router = guarded_router(guarded)
    description = _describe(context)
    _add_predict(router, context)
    if context.explains:
        _add_explain(router, context)

    @router.get(
        "/v1/model",
        summary="Which model this is, and what it can be asked",
        response_model=type(description),
        responses={401: PROBLEMS[401]} if guarded else {},
    )
    async def described_model() -> Any:
        return description

    @router.get("/metrics", include_in_schema=False)
    async def metrics() -> Response:
        return Response(context.meters.text() + more(), media_type=CONTENT_TYPE_LATEST)

    return router


def guarded_router(guarded: bool) -> APIRouter:
    """Return a router whose schema says whether a key is wanted; `Guard` checks the key."""
    if not guarded:
        return APIRouter(dependencies=[])
    return APIRouter(dependencies=[Depends(HTTPBearer(auto_error=False))])


def _add_predict(router: APIRouter, context: AppContext) -> None:
    query = limited(context.evaluator.Query, context.params.limits.characters)
    body_type: Any = request_type(query, context.params.max_items)

    @router.post(
        "/v1/predict",
        summary="Predict",
        response_model=answer_type(context.evaluator.Answer),
        responses=PROBLEMS,
    )
    async def predict(request: Request, body: Annotated[body_type, Body()]) -> Any:
        several = hasattr(body, "inputs")
        queries = body.inputs if several else [body]
        outcomes = await _ask(context, request, queries)
        _refuse(outcomes, several)
        unsure = sum(getattr(outcome, "abstained", False) for outcome in outcomes)
        context.meters.count_predictions(len(outcomes), unsure)
        id_ = request.scope[ID]
        if context.recorder:
            context.recorder.log_sample(id_, queries, outcomes)
        return json_response(
            {"predictions": outcomes, "model": context.model.ref, "id": id_},
        )


def _add_explain(router: APIRouter, context: AppContext) -> None:
    rules: Any = context.evaluator
    limits = context.params.limits
    shortest = min(CHARACTERS, limits.characters)
    query: Any = limited(rules.Query, shortest, "Explained", of_all=limits.characters)

    @router.post(
        "/v1/explain",
        summary="Predict one item, and tell which of its parts mattered",
        response_model=explanation_type(rules.Answer, rules.weight_description),
        responses=PROBLEMS,
    )
    async def explained(request: Request, body: Annotated[query, Body()]) -> Any:
        parts = rules.parts(body, limits.explained_parts)
        outcomes = await _ask(context, request, [body, *variants(rules, body, parts)])
        _refuse(outcomes[:1], several=False)
        others = [_without_reject(outcome) for outcome in outcomes[1:]]
        weights = explain(rules, outcomes[0], others)
        errors = [outcome for outcome in outcomes if not isinstance(outcome, Reject)]
        _refuse(errors, several=False)
        weighted = [
            Part(text=part, weight=weight) for part, weight in zip(parts, weights, strict=True)
        ]
        return json_response(
            {
                "prediction": outcomes[0],
                "parts": weighted,
                "model": context.model.ref,
                "id": request.scope[ID],
            }
        )


def _without_reject(outcome: Any) -> Any:
    return None if isinstance(outcome, Reject) else outcome


async def _ask(context: AppContext, request: Request, queries: Sequence[Any]) -> list[Any]:
    limits = context.params.limits
    waiting = context.batcher.waiting
    request.scope[BUCKET].charge(len(queries))
    if waiting and waiting + len(queries) > limits.queued_items:
        set_refusal_reason(request.scope, "overload")
        raise HTTPException(503, "More is waiting than can be answered in time", retry_after(1))
    try:
        async with asyncio.timeout(context.params.request_timeout_s):
            return await context.batcher.ask(queries)
    except TimeoutError:
        raise HTTPException(504, "The model did not answer in time") from None


def _describe(context: AppContext) -> BaseModel:
    """Return the answer of GET /v1/model."""
    card = context.card
    limits = context.params.limits
    info = task_schema(card.task).targets.Info
    description = description_type(info)
    schema = _query_schema(context)
    return description(
        **context.model.model_dump(),
        title=card.title,
        task=card.task,
        **info.model_validate(card.targets).model_dump(),
        query=schema,
        fields=_filled(schema, card.profile),
        limits=Limits(
            items=context.params.max_items,
            body_bytes=limits.body_bytes,
            characters=limits.characters,
        ),
        explains=context.explains,
    )


def _query_schema(context: AppContext) -> Mapping[str, Any]:
    """Return the JSON schema of one item."""
    if isinstance(context.evaluator, DescribesQueries):
        return context.evaluator.query_schema(context.card.profile)
    return limited(context.evaluator.Query, context.params.limits.characters).model_json_schema()


def _filled(schema: Mapping[str, Any], profile: Mapping[str, Any]) -> list[str]:
    """Return the properties of an item that a page should ask a person for.

    These are all properties but optional ones that were empty in every training row.

    Args:
        schema: of an item.
        profile: what the training inputs looked like. One of an earlier version has no fields,
            and then all properties are returned.
    """
    required = schema.get("required", [])
    fields = profile.get("fields", {})
    seen = {name.rpartition(".")[0] for name in fields}
    properties = schema.get("properties", {})
    return [name for name in properties if name in required or name in seen or not fields]


def json_response(answer: dict[str, Any], status: int = 200) -> Response:
    """Return a response in JSON, without validation.

    What the model answered was validated when it was made. Validating it again costs more than a
    small model.

    Args:
        answer: the body.
        status: of HTTP.
    """
    return Response(to_json(answer), status, media_type="application/json")


def _refuse(outcomes: Sequence[Any], several: bool) -> None:
    """Raise an error for queries that could not be answered.

    It holds the reason only: a detail may quote what was sent.

    Args:
        outcomes: answers and errors.
        several: whether the body was `{"inputs": [...]}`, not one item.

    Raises:
        HTTPException: queries were rejected.
        Exception: any other error of an outcome.
    """
    rejected = []
    for index, outcome in enumerate(outcomes):
        if isinstance(outcome, Reject):
            loc = ["body", "inputs", index] if several else ["body"]
            rejected.append({"loc": loc, "msg": outcome.reason})
    for outcome in outcomes:
        if isinstance(outcome, Exception) and not isinstance(outcome, Reject):
            raise outcome
    if rejected:
        raise HTTPException(422, rejected)


def posts(router: APIRouter, limits: LimitParams) -> list[Route]:
    """Return the POST routes without FastAPI's own handling, which takes longer than a small model.

    FastAPI's routes stay for the description.

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
    """Return a handler that parses strict JSON, validates the body, and calls the route.

    The standard library would let lone surrogates and NaN through, and recurse without end.
    """
    endpoint = route.endpoint
    body_type = TypeAdapter[Any](route.endpoint.__annotations__["body"])

    async def direct(request: Request) -> Response:
        if not _is_json(request):
            raise HTTPException(422, "Send JSON, with the header Content-Type: application/json")
        try:
            value = from_json(await request.body(), allow_inf_nan=False)
            body = body_type.validate_python(value, context=context)
        except ValidationError as error:
            errors = error.errors(include_url=False, include_input=False)
            raise HTTPException(422, mistakes(errors)) from None
        except ValueError as error:
            raise HTTPException(422, f"The body is not JSON: {error}") from None
        answer: Response = await endpoint(request, body)
        return answer

    return direct


def _is_json(request: Request) -> bool:
    content_type = request.headers.get("content-type", "")
    return content_type.partition(";")[0].strip().lower() == "application/json"


def html(name: str, script: str = "") -> HTMLResponse:
    """Return a page beside this file, under its own policy.

    Args:
        name: of the page.
        script: of the task.
    """
    text, policy = page(name, script)
    return HTMLResponse(text, headers={"Content-Security-Policy": policy})
