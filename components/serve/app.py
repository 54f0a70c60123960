"""The HTTP service around one loaded model, with no Ray in it: `replica` puts it into Ray Serve."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, FastAPI, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse
from fastapi.routing import APIRoute
from fastapi.security import HTTPBearer
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic_core import from_json

from components.core.bundles import Card
from components.fields.base import Reject
from components.serve.batcher import Batcher
from components.serve.limits import BodyLimit
from components.serve.pages import page
from components.serve.params import ServeParams
from components.serve.watch import Meters, Watch
from components.serve.wire import MAX_BODY_BYTES, Health, Limits, ModelDescription, ModelInfo, ModelRef, Predictor, Problem, answer_type, mistakes, request_type
from components.tasks.base import Judge, judge

_PATHS = ("/", "/docs", "/openapi.json", "/healthz", "/metrics", "/v1/predict", "/v1/model")


def build_app(predictor: Predictor, model: ModelInfo, params: ServeParams | None = None, *, key: str | None = None, replica: str = "0") -> FastAPI:
    """The app that answers for one model.

    Args:
        predictor: the loaded model.
        model: name, version and data hash that every answer carries, and examples.
        params: limits and batching.
        key: if given, /v1 and /metrics want `Authorization: Bearer <key>`.
        replica: tells this replica's meters from another's.
    """
    params = params or ServeParams()
    batcher = Batcher(predictor.predict, params.max_batch_size, params.batch_wait_ms / 1000)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        batcher.close()

    app = FastAPI(title=f"Gristmill: {model.name}", version=model.version, docs_url=None, redoc_url=None, lifespan=lifespan)
    meters = Meters(model.ref, replica, _PATHS)
    app.add_middleware(BodyLimit, limit=MAX_BODY_BYTES)
    app.add_middleware(Watch, meters=meters)  # the last added is the outermost
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(Exception, _broken)
    app.include_router(_open_routes(model.ref))
    app.include_router(_guarded_routes(predictor.card, batcher, meters, model, params, key))
    return app


def _open_routes(ref: ModelRef) -> APIRouter:
    router = APIRouter()

    @router.get("/healthz", summary="Is it up, and which model answers")
    async def healthz() -> Health:
        return Health(status="ok", model=ref)

    @router.get("/", include_in_schema=False)
    async def home() -> Response:
        return _html("page.html")

    @router.get("/docs", include_in_schema=False)
    async def docs() -> Response:
        return _html("docs.html")

    return router


def _guarded_routes(card: Card, batcher: Batcher, meters: Meters, model: ModelInfo, params: ServeParams, key: str | None) -> APIRouter:
    rules = judge(card.task)
    dependencies = [Depends(HTTPBearer(auto_error=False))] if key else []  # for the schema only: the route itself checks, before it reads a body
    router = APIRouter(route_class=_guarded(key), dependencies=dependencies)
    described = _describe(card, rules, model, params)
    asked: Any = request_type(rules.Query, params.max_items)

    @router.post("/v1/predict", summary="Predict", response_model=answer_type(rules.Answer), responses={413: {"model": Problem}, 422: {"model": Problem}})
    async def predict(body: Annotated[asked, Body()]) -> Any:
        queries = body.inputs if hasattr(body, "inputs") else [body]
        try:
            outcomes = await asyncio.wait_for(batcher.ask(queries), params.request_timeout_s)
        except TimeoutError:
            raise HTTPException(504, "The model did not answer in time") from None
        _refuse(outcomes)
        meters.predicted(len(outcomes))
        return {"predictions": outcomes, "model": model.ref}

    @router.get("/v1/model", summary="Which model this is, and what it can be asked")
    async def described_model() -> ModelDescription:
        return described

    @router.get("/metrics", include_in_schema=False)
    async def metrics() -> Response:
        return Response(meters.text(), media_type=CONTENT_TYPE_LATEST)

    return router


def _describe(card: Card, rules: Judge, model: ModelInfo, params: ServeParams) -> ModelDescription:
    return ModelDescription(
        **model.model_dump(),
        title=card.title,
        task=card.task,
        classes=list(card.classes),
        query=rules.Query.model_json_schema(),
        limits=Limits(items=params.max_items, body_bytes=MAX_BODY_BYTES),
    )


def _refuse(outcomes: list[Any]) -> None:
    """Raise for what could not be answered. The reason only: a detail may quote what was sent."""
    rejected = [{"loc": ["body", "inputs", index], "msg": outcome.reason} for index, outcome in enumerate(outcomes) if isinstance(outcome, Reject)]
    for outcome in outcomes:
        if isinstance(outcome, Exception) and not isinstance(outcome, Reject):
            raise outcome
    if rejected:
        raise HTTPException(422, rejected)


class _StrictRequest(Request):
    """JSON by the letter: the standard library would let lone surrogates and NaN through, and recurse without end."""

    async def json(self) -> Any:
        try:
            return from_json(await self.body(), allow_inf_nan=False)
        except ValueError as error:
            raise HTTPException(422, f"The body is not JSON: {error}") from None


def _guarded(key: str | None) -> type[APIRoute]:
    wanted = f"Bearer {key}".encode()

    class Guarded(APIRoute):
        def get_route_handler(self) -> Callable[[Request], Awaitable[Response]]:  # type: ignore[override]
            handler = super().get_route_handler()

            async def guarded(request: Request) -> Response:
                if key and not secrets.compare_digest(request.headers.get("authorization", "").encode(), wanted):
                    raise HTTPException(401, "An API key is needed: Authorization: Bearer ...", {"WWW-Authenticate": "Bearer"})
                if request.method == "POST" and request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
                    raise HTTPException(422, "Send JSON, with the header Content-Type: application/json")
                return await handler(_StrictRequest(request.scope, request.receive))

            return guarded

    return Guarded


def _html(name: str) -> HTMLResponse:
    text, policy = page(name)
    return HTMLResponse(text, headers={"Content-Security-Policy": policy})


async def _invalid(_: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"detail": mistakes(error.errors())}, 422)  # type: ignore[attr-defined]


async def _broken(_: Request, __: Exception) -> JSONResponse:
    return JSONResponse({"detail": "Internal error"}, 500)
