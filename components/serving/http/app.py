"""The HTTP service around one loaded model, with no Ray in it: `replica` puts it into Ray Serve."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

from components.serving.http.api_keys import Keyring
from components.serving.http.auth import Bucket, Drain, Guard
from components.serving.http.batching import Batcher
from components.serving.http.hosts import AllowedHosts, HostCheck
from components.serving.http.limits import BodyLimit
from components.serving.http.messages import ModelInfo, PredictorProtocol
from components.serving.http.monitoring_routes import Monitored, monitor_routes
from components.serving.http.request_metrics import Meters, Watch
from components.serving.http.routes import AppContext, guarded_routes, open_routes, posts
from components.serving.params import ServeParams
from components.serving.replicas.escaped_logs import escape_logs

_OPEN = ("/", "/docs", "/monitor", "/openapi.json", "/healthz", "/readyz")
_GUARDED = ("/metrics", "/v1/predict", "/v1/explain", "/v1/model", "/v1/monitor", "/v1/feedback")


def build_app(
    predictor: PredictorProtocol,
    model: ModelInfo,
    params: ServeParams | None = None,
    *,
    keys: Keyring | None = None,
    replica: str = "0",
    monitored: Monitored | None = None,
) -> FastAPI:
    """The app that answers for one model.

    Args:
        predictor: the loaded model.
        model: name, version and hashes that every answer carries, and examples.
        params: limits and batching.
        keys: if there are any, /v1 and /metrics want `Authorization: Bearer <key>`.
        replica: tells this replica's meters from another's.
        monitored: logs answers and takes labels for them; None: nothing is kept.
    """
    params = params or ServeParams()
    keys = Keyring() if keys is None else keys
    meters, door = Meters(model.ref, replica, (*_OPEN, *_GUARDED)), Drain()
    batcher = Batcher(
        predictor,
        params.max_batch_size,
        params.max_batch_tokens,
        params.batch_wait_ms / 1000,
        meters.scored,
    )
    meters.follow(lambda: batcher.waiting, lambda: door.inside)
    service = AppContext(
        predictor.card,
        model,
        params,
        batcher,
        meters,
        door,
        monitored.recorder(predictor.card, model.version) if monitored else None,
    )

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await _warm(service)
        door.ready = True
        yield
        await door.leave(params.request_timeout_s)
        await asyncio.to_thread(batcher.close)
        if monitored:
            await asyncio.to_thread(monitored.log.flush)

    escape_logs()
    app = FastAPI(
        title=f"Gristmill: {model.name}",
        version=model.version,
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
        # a redirect to the other form of a path would repeat the Host header
        redirect_slashes=False,
    )
    app.state.door = door
    _add_middleware(app, service, keys)
    app.add_exception_handler(Exception, _broken)
    app.include_router(open_routes(service))
    guarded = [guarded_routes(service, keys.wanted, monitored.metrics if monitored else bytes)]
    if monitored:
        guarded.append(monitor_routes(service, monitored, keys.wanted))
    for router in guarded:
        app.router.routes.extend(posts(router, params.limits))
        app.include_router(router)
    return app


def _add_middleware(app: FastAPI, service: AppContext, keys: Keyring) -> None:
    """Add what a request passes before its route; the last added is the outermost."""
    limits, meters, door = service.params.limits, service.meters, service.door

    def full() -> bool:
        return max(service.batcher.waiting, door.inside) >= limits.queued_items

    app.add_middleware(BodyLimit, limit=limits.body_bytes, timeout_s=limits.body_timeout_s)
    app.add_middleware(
        Guard,
        guarded=frozenset(_GUARDED),
        keys=keys,
        door=door,
        full=full,
        bucket=lambda: Bucket(limits.items_per_s, limits.burst_items),
        meters=meters,
    )
    app.add_middleware(HostCheck, allowed=AllowedHosts(service.params.allowed_hosts))
    app.add_middleware(Watch, meters=meters)


async def _warm(service: AppContext) -> None:
    """Answer an example, so that the first client does not pay for lazy set-up."""
    examples = [service.evaluator.Query.model_validate(each) for each in service.model.examples[:1]]
    for _ in range(2 if examples else 0):
        await service.batcher.ask(examples)


async def _broken(_: Request, __: Exception) -> JSONResponse:
    return JSONResponse({"detail": "Internal error"}, 500)
