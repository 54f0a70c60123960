"""The champion at work: over HTTP, or asked once from the command line."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
from rich.markup import escape

from components.core.errors import EnvironmentFault, InputError
from pipelines.keys import keys_file
from pipelines.lock import only_one
from pipelines.params import Params, load
from pipelines.run import files_of
from pipelines.watch import console

if TYPE_CHECKING:
    from components.registry.versions import Version
    from components.serve.params import ServeParams
    from components.serve.plan import Edition


def hold(root: Path, name: str, host: str, port: int) -> None:
    """Deploy the champion and keep it up until Ctrl-C or SIGTERM.

    Raises:
        InputError: nothing was released yet.
        EnvironmentFault: port taken, a public host without a key, another service of this project.
    """
    from components.serve.address import check_address
    from components.serve.deploy import deploy, remove
    from components.serve.keys import Keyring
    from pipelines.cluster import attached, describe
    from pipelines.follow import Home, begin, lead
    from pipelines.monitor import Watchman, monitoring

    params = _params(root, name)
    settings: ServeParams = params.sections["serve"]  # type: ignore[assignment]
    limits = params.sections["registry"].gates  # type: ignore[attr-defined]
    home, keys = Home(root, params.name, settings), Keyring.from_environment(keys_file(root))
    with (
        only_one(
            root / "data" / ".state" / params.name / "serve.lock",
            f"a service of pipeline {params.name}",
        ),
        _ray_of_service(root, params.name) as apart,
    ):
        leading = _champion(root, params, name, spare=home.proven.is_file())
        if not os.environ.get("RAY_ADDRESS") and (apart or describe(root) is None):
            check_address(host, port, keys.wanted)  # before Ray is started for nothing
        with attached(root, psutil.Process(), apart=apart):
            _on_signal(_interrupt)  # not earlier: Ray sets its own

            watched = monitoring(root, params)

            def start(edition: Edition) -> str:
                board = home.board.folder
                return deploy(
                    edition.bundle,
                    app_name=params.name,
                    route_prefix="/",
                    host=host,
                    port=port,
                    params=settings,
                    model=edition.model,
                    board=board,
                    keys=keys,
                    monitoring=watched,
                )

            try:
                first, refused, url = begin(home, leading, start, _say)
                console.print(
                    f"[bold]{escape(params.name)}[/bold] version {first.version} answers at {url}   (page {url}/  API {url}/docs  Ctrl-C ends it)"
                )
                Watchman(root, params, _say).start()
                lead(home, first, refused, url, limits, _say)
            except KeyboardInterrupt:
                _on_signal(signal.SIG_IGN)  # once is enough
                console.print("stopping …")
                remove(params.name)


@contextmanager
def _ray_of_service(root: Path, name: str) -> Iterator[Path | None]:
    """Choose the Ray of a service: None, the project's, for the first one; for another pipeline's beside it a Ray of its own, because one Ray listens on one port.

    Yields:
        The folder for the record of the service's own Ray.

    Raises:
        EnvironmentFault: RAY_ADDRESS names one cluster for all, and another service of this project is there.
    """
    with ExitStack() as held:
        try:
            held.enter_context(
                only_one(root / "data" / ".state" / "serve.lock", "a service of this project")
            )
            apart = None
        except EnvironmentFault as fault:
            if os.environ.get("RAY_ADDRESS"):
                what = f"{fault.what}; one cluster listens on one port"
                raise EnvironmentFault(
                    what,
                    where="RAY_ADDRESS",
                    remedy="end the other service, or unset RAY_ADDRESS to serve this pipeline from this machine",
                ) from None
            apart = root / "data" / ".state" / "ray" / name
        yield apart


def _say(text: str) -> None:
    console.print(f"{time.strftime('%H:%M:%S')} {escape(text)}", soft_wrap=True)


def answer(root: Path, name: str, argument: str) -> None:
    """Ask the champion one thing, in this process.

    Raises:
        InputError: no champion, or a query that it cannot take.
    """
    from pydantic import ValidationError

    from components.engine.predict import load as load_bundle
    from components.fields.base import Reject
    from components.registry.versions import fetch

    if not argument.strip():
        raise InputError("the query is empty", remedy='gristmill predict "…"')
    params, leading = released(root, name)
    settings: ServeParams = params.sections["serve"]  # type: ignore[assignment]
    with tempfile.TemporaryDirectory(prefix="gristmill-") as scratch:
        predictor = load_bundle(
            fetch(root, params.name, leading.number, Path(scratch)), settings.abstain
        )
    try:
        given = predictor.predict([predictor.judge.read(argument)])[0]
    except (Reject, ValidationError, OSError) as error:
        reason = (
            error.reason
            if isinstance(error, Reject)
            else error.strerror
            if isinstance(error, OSError)
            else error.errors()[0]["msg"]
        )
        raise InputError(
            f"{argument[:60]!r} cannot be answered: {reason}", remedy="ask something else"
        ) from None
    if given.abstained:
        console.print(_not_sure(predictor.least_confidence, settings.abstain))
    for label, probability in sorted(given.probabilities.items(), key=lambda item: -item[1])[:10]:
        console.print(f"{probability:7.1%}  {'█' * round(probability * 30):30}  {escape(label)}")
    console.print(
        f"[dim]{escape(params.name)} version {leading.number}, {escape(predictor.card.title)}, data {predictor.card.data_hash[:12]}[/dim]"
    )


def _not_sure(least: float | None, stated: float | None) -> str:
    """Return why an answer is marked as not sure."""
    if least is None or math.isinf(least):
        return f"not sure: no threshold can promise serve.abstain: {stated}, so no answer is sure; the best guess is the first of these"
    return f"not sure: below {least:.1%}, the threshold of serve.abstain: {stated}; the best guess is the first of these"


def tracking_ui(root: Path, port: int) -> int:
    """Run the tracking server in the foreground. Returns its exit code."""
    from components.registry import store
    from components.serve.address import check_address

    words = store.ui_command(root, port)
    check_address("127.0.0.1", port)
    store.client(root)  # makes the database where there is none, and mends its paths after a move
    _on_signal(_interrupt)
    # The address without a path opens MLflow's page of news.
    console.print(
        f"MLflow at http://127.0.0.1:{port}/#/experiments   (Ctrl-C ends it)", soft_wrap=True
    )
    process = subprocess.Popen(words, env={**os.environ, **store.ENVIRONMENT}, cwd=root)
    try:
        return process.wait()
    except KeyboardInterrupt:
        process.terminate()
        process.wait(20)
        return 0


def _params(root: Path, name: str) -> Params:
    path = files_of(root, name)[0]
    return load(path, shown=path.relative_to(root).as_posix())


def released(root: Path, name: str) -> tuple[Params, Version]:
    """Params and champion of a pipeline.

    Raises:
        InputError: nothing was released yet.
    """
    params = _params(root, name)
    leading = _champion(root, params, name)
    assert leading is not None
    return params, leading


def _champion(root: Path, params: Params, name: str, spare: bool = False) -> Version | None:
    """Who is released. None: nobody can say, which is no matter where there is something to spare.

    Raises:
        InputError: nothing was released yet.
        EnvironmentFault: the registry does not answer.
    """
    from components.registry.versions import champion

    try:
        leading = champion(root, params.name)
    except Exception as error:
        if not spare:
            raise
        _say(f"the registry does not say who is champion: {error}")
        return None
    if leading is None and spare:
        return None
    if leading is None:
        again = "gristmill run" if name == "default" else f"gristmill run {name}"
        raise InputError(
            f"pipeline {name!r} has no champion yet",
            where="registry",
            remedy=f"{again}; if it ran already, a gate has refused its model: gristmill status",
        )
    return leading


def _on_signal(handler: Callable[..., object] | signal.Handlers) -> None:
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, handler)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt
