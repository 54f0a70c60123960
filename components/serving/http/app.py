"""The HTTP service around one loaded model.

This module uses no Ray. `components.serving.replicas.replica` puts the app into Ray Serve.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

from components.serving.http.admission import AdmissionMiddleware
from components.serving.http.batching import Batcher
from components.serving.http.body_limit import BodyLimit
from components.serving.http.drain import Drain
from components.serving.http.host_check import HostCheck
from components.serving.http.host_names import AllowedHosts
from components.serving.http.keyring import Keyring
from components.serving.http.messages import ModelInfo, PredictorProtocol
from components.serving.http.monitoring_routes import ReplicaMonitor, monitor_routes
from components.serving.http.rate_limit import TokenBucket
from components.serving.http.request_metrics import Meters, RequestMiddleware
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
    monitored: ReplicaMonitor | None = None,
) -> FastAPI:
    """Return the app that answers for one model.

    Args:
        predictor: the loaded model.
        model: name, version and hashes that every answer carries, and examples.
        params: limits and batching.
        keys: if there are any, /v1 and /metrics want `Authorization: Bearer <key>`.
        replica: the value that tells the metrics of replicas apart.
        monitored: logs answers and accepts their truths; None: nothing is logged.
    """
    params = params or ServeParams()
    keys = Keyring() if keys is None else keys
    context = _build_context(predictor, model, params, replica, monitored)
    escape_logs()
    app = FastAPI(
        title=f"Gristmill: {model.name}",
        version=model.version,
        docs_url=None,
        redoc_url=None,
        lifespan=_lifespan(context, monitored),
        # a redirect to the other form of a path would repeat the Host header
        redirect_slashes=False,
    )
    app.state.drain = context.drain
    _add_middleware(app, context, keys)
    app.add_exception_handler(Exception, _broken)
    app.include_router(open_routes(context))
    more = monitored.metrics if monitored else bytes
    guarded = [guarded_routes(context, keys.required, more)]
    if monitored:
        guarded.append(monitor_routes(context, monitored, keys.required))
    asked_most = []
    for router in guarded:
        app.include_router(router)
        asked_most += posts(router, params.limits)
    # Routes are tried in their order.
    app.router.routes[:0] = asked_most
    return app


def _build_context(
    predictor: PredictorProtocol,
    model: ModelInfo,
    params: ServeParams,
    replica: str,
    monitored: ReplicaMonitor | None,
) -> AppContext:
    meters = Meters(model.ref, replica, (*_OPEN, *_GUARDED))
    drain = Drain()
    batcher = Batcher(
        predictor,
        params.max_batch_size,
        params.max_batch_tokens,
        params.batch_wait_ms / 1000,
        meters.count_batch,
    )
    meters.set_gauges(lambda: batcher.waiting, lambda: drain.inside)
    recorder = None
    if monitored:
        recorder = monitored.recorder(predictor.card, model.version)
    return AppContext(
        card=predictor.card,
        model=model,
        params=params,
        batcher=batcher,
        meters=meters,
        drain=drain,
        recorder=recorder,
    )


def _lifespan(
    context: AppContext, monitored: ReplicaMonitor | None
) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await _warm(context)
        context.drain.ready = True
        yield
        await context.drain.leave(context.params.request_timeout_s)
        await asyncio.to_thread(context.batcher.close)
        if monitored:
            await asyncio.to_thread(monitored.log.flush)

    return lifespan


def _add_middleware(app: FastAPI, context: AppContext, keys: Keyring) -> None:
    """Add what a request passes before its route; the last added is the outermost."""
    limits = context.params.limits
    meters = context.meters
    drain = context.drain

    def full() -> bool:
        return max(context.batcher.waiting, drain.inside) >= limits.queued_items

    app.add_middleware(BodyLimit, limit=limits.body_bytes, timeout_s=limits.body_timeout_s)
    app.add_middleware(
        AdmissionMiddleware,
        guarded=frozenset(_GUARDED),
        keys=keys,
        drain=drain,
        full=full,
        bucket=lambda: TokenBucket(limits.items_per_s, limits.burst_items),
        meters=meters,
    )
    app.add_middleware(HostCheck, allowed=AllowedHosts(context.params.allowed_hosts))
    app.add_middleware(RequestMiddleware, meters=meters)


async def _warm(context: AppContext) -> None:
    """Answer an example, so that the first client does not pay for lazy set-up."""
    query_type = context.evaluator.Query
    examples = [query_type.model_validate(example) for example in context.model.examples[:1]]
    for _ in range(2 if examples else 0):
        await context.batcher.ask(examples)


async def _broken(_: Request, __: Exception) -> JSONResponse:
    return JSONResponse({"detail": "Internal error"}, 500)
