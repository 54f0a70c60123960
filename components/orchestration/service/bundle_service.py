"""Serve one bundle in one process under uvicorn, without Ray, a registry and a project."""

from __future__ import annotations

import os
import signal
import socket
import stat
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import uvicorn
from pydantic import BaseModel, ValidationError

from components.core.bundles import CARD, read_card
from components.core.cards import first_mistake
from components.core.errors import BundleError, GristmillError, InputError
from components.core.escaping import brief, log_line
from components.core.files import sha256
from components.core.terminal import print_line
from components.fields.base import Reject
from components.inference.predictor import Predictor, load
from components.registry import validation
from components.serving.http.app import build_app
from components.serving.http.keyring import Keyring
from components.serving.http.messages import ModelInfo
from components.serving.params import ServeParams
from components.serving.replicas.address import check_key, listen, url_of
from components.serving.replicas.deploy import listening_on

if TYPE_CHECKING:
    from fastapi import FastAPI

# Queries that `gristmill export` writes beside a bundle.
CHECKS = "check.json"
_MOST_CHECK_BYTES = 1 << 20
_REMEDY = "name a folder of gristmill export, or a bundle such as data/NAME/models/winner"


class _Case(BaseModel):
    """A query that an export was checked with."""

    query: dict[str, Any]


class _Checks(BaseModel):
    """Content of check.json, as far as it is used."""

    cases: list[_Case]


class BundleServer(uvicorn.Server):
    """A server that calls a function as soon as it answers.

    Args:
        app: that answers.
        params: section `serve`.
        ready: is called once.
    """

    def __init__(self, app: FastAPI, params: ServeParams, ready: Callable[[], None]) -> None:
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=int(params.request_timeout_s) + 1,
        )
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start the app, and listen."""
        await super().startup(sockets)
        if self.started:
            self._ready()


def hold_bundle(
    folder: Path,
    name: str | None,
    *,
    host: str,
    port: int,
    keys: Keyring,
    allowed_hosts: Sequence[str] = (),
) -> None:
    """Serve a bundle until Ctrl-C or SIGTERM.

    Args:
        folder: of the bundle.
        name: that answers give to the model; None: the folder's.
        host: the address to listen on.
        port: to listen on; 0: any that is free.
        keys: the valid API keys.
        allowed_hosts: further names that a Host header may have.

    Raises:
        InputError: the folder holds no bundle that can be served, or a host name is malformed.
        BundleError: a file of the bundle cannot be trusted, or the model does not answer.
        EnvironmentFault: the port is taken, or a public host has no key.
    """
    check_key(host, keys.required)
    params = listening_on(_params(allowed_hosts), host)
    with listen(host, port) as listener:
        predictor, model = open_bundle(folder, name)
        app = build_app(predictor, model, params, keys=keys)
        url = url_of(host, listener.getsockname()[1])
        what = f"{model.name} version {model.version}"
        pages = f"page {url}/  API {url}/docs  Ctrl-C ends it"
        server = BundleServer(
            app, params, lambda: print_line(f"{what} answers at {url}   ({pages})")
        )
        # The server sets this handler later, and at its end it sends itself the signal again.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, server.handle_exit)
        server.run(sockets=[listener])
    if not server.started:
        raise BundleError("does not answer", where=str(folder), remedy=_REMEDY)


def open_bundle(folder: Path, name: str | None) -> tuple[Predictor, ModelInfo]:
    """Verify a bundle and return its predictor, and what answers say of the model.

    Args:
        folder: of the bundle.
        name: of the model; None: the folder's.

    Raises:
        InputError: the folder holds no bundle, its weights need torch, or its queries are of no
            use.
        BundleError: a file of the bundle cannot be trusted, or the model does not answer.
    """
    if not os.path.lexists(folder / CARD):
        raise InputError(f"holds no {CARD}, so it is no bundle", where=str(folder), remedy=_REMEDY)
    card = read_card(folder).card
    if card.runtime == "torch":
        raise InputError(
            f"{card.title} needs torch, and a bundle is served with numpy or ONNX Runtime",
            where=str(folder),
            remedy="gristmill export NAME --to DIR --format onnx, then serve that folder",
        )
    digest = sha256(folder / CARD)
    predictor = load(folder, registered=digest)
    queries = _read_queries(folder / CHECKS, predictor)
    _try(predictor, queries, folder)
    model = ModelInfo(
        name=log_line(name or folder.resolve().name),
        version=digest[: validation.PREFIX],
        data_hash=card.data_hash,
        bundle=digest[: validation.PREFIX],
        examples=[query.model_dump(mode="json") for query in queries],
    )
    return predictor, model


def _params(allowed_hosts: Sequence[str]) -> ServeParams:
    try:
        return ServeParams(allowed_hosts=list(allowed_hosts))
    except ValidationError as error:
        raise InputError(
            first_mistake(error), where="--allow-host", remedy="gristmill serve --help"
        ) from None


def _read_queries(path: Path, predictor: Predictor) -> list[BaseModel]:
    """Return the queries that an export was checked with; none where there is no such file.

    Raises:
        InputError: it is no regular file, is too large, or holds no queries of the task.
    """
    if not os.path.lexists(path):
        return []
    status = path.lstat()
    what = f"is no file of at most {_MOST_CHECK_BYTES:,} bytes"
    if stat.S_ISREG(status.st_mode) and status.st_size <= _MOST_CHECK_BYTES:
        try:
            cases = _Checks.model_validate_json(path.read_bytes()).cases
            return [predictor.evaluator.Query.model_validate(case.query) for case in cases]
        except ValidationError as error:
            what = f"holds no queries: {first_mistake(error)}"
    raise InputError(what, where=str(path), remedy="delete it: a bundle is served without it, too")


def _try(predictor: Predictor, queries: Sequence[BaseModel], folder: Path) -> None:
    """Answer queries once, so that a model that cannot answer is refused before it is served.

    Raises:
        BundleError: it does not answer.
    """
    try:
        predictor.predict(queries)
        return
    except GristmillError:
        raise
    except Reject as reject:
        what = f"refuses a query of {CHECKS}: {reject.reason}"
    except Exception as error:
        what = f"does not answer: {brief(error)}"
    raise BundleError(what, where=str(folder), remedy=_REMEDY)
