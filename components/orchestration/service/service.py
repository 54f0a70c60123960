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
from typing import TYPE_CHECKING, Any

import psutil

from components.core.console import console, styled
from components.core.errors import EnvironmentFault, InputError
from components.orchestration.locks import only_one
from components.orchestration.pipeline_params import Params, load
from components.orchestration.project import keys_file
from components.orchestration.runner.run import files_of

if TYPE_CHECKING:
    from components.registry.versions.model_versions import Version
    from components.serving.params import ServeParams
    from components.serving.rollout.plan import ServedVersion


def hold(root: Path, name: str, host: str, port: int) -> None:
    """Deploy the champion and keep it up until Ctrl-C or SIGTERM.

    Raises:
        InputError: nothing was released yet.
        EnvironmentFault: port taken, a public host without a key, another service of this project.
    """
    from components.orchestration.cluster.local_cluster import attached, describe
    from components.orchestration.drift.drift_check import Watchman, monitoring
    from components.orchestration.service.registry_watch import Home, begin, lead
    from components.serving.http.api_keys import Keyring
    from components.serving.replicas.address import check_address
    from components.serving.replicas.deploy import deploy, remove

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

            def start(edition: ServedVersion) -> str:
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
                where = f"answers at {url}   (page {url}/  API {url}/docs  Ctrl-C ends it)"
                console.print(styled((params.name, "bold"), f" version {first.version} {where}"))
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
    console.print(f"{time.strftime('%H:%M:%S')} {text}", soft_wrap=True)


def answer(root: Path, name: str, argument: str) -> None:
    """Ask the champion one thing, in a child process: what comes from the registry may hang.

    Raises:
        InputError: no champion, or a query that it cannot take.
        BundleError: the champion's files are not those that were registered, or do not answer.
    """
    from pydantic import ValidationError

    from components.core.sandbox import Confined
    from components.fields.base import Reject
    from components.inference.predictor import first_answers
    from components.registry.versions.model_versions import fetch_registered
    from components.tasks import base

    if not argument.strip():
        raise InputError("the query is empty", remedy='gristmill predict "…"')
    # It starts while the registry is asked.
    with (
        Confined(first_answers) as child,
        tempfile.TemporaryDirectory(prefix="gristmill-") as scratch,
    ):
        params, leading = released(root, name)
        settings: ServeParams = params.sections["serve"]  # type: ignore[assignment]
        evaluator = base.evaluator(params.task)
        bundle = fetch_registered(root, params.name, leading.number, Path(scratch))
        try:
            query = evaluator.read(argument).model_dump_json()
        except (Reject, ValidationError, OSError) as error:
            raise _unanswerable(argument, _reason(error)) from None
        told = child.call(
            bundle.folder, str(bundle.folder), bundle.digest, settings.abstain, [query]
        )
    if "rejected" in told:
        raise _unanswerable(argument, told["rejected"])
    given: Any = evaluator.Answer.model_validate(told["answers"][0])
    if given.abstained:
        console.print(_not_sure(told["least_confidence"], settings.abstain))
    for label, probability in sorted(given.probabilities.items(), key=lambda item: -item[1])[:10]:
        console.print(f"{probability:7.1%}  {'█' * round(probability * 30):30}  {label}")
    model = f"{params.name} version {leading.number}, {told['title']}"
    console.print(f"{model}, data {told['data_hash'][:12]}", style="dim")


def _reason(error: Exception) -> str:
    """Return why a query was refused before it was asked."""
    from pydantic import ValidationError

    if isinstance(error, ValidationError):
        return error.errors()[0]["msg"]
    if isinstance(error, OSError):
        return str(error.strerror)
    return str(getattr(error, "reason", error))


def _unanswerable(argument: str, reason: str) -> InputError:
    return InputError(
        f"{argument[:60]!r} cannot be answered: {reason}", remedy="ask something else"
    )


def _not_sure(least: float | None, stated: float | None) -> str:
    """Return why an answer is marked as not sure."""
    if least is None or math.isinf(least):
        return f"not sure: no threshold can promise serve.abstain: {stated}, so no answer is sure; the best guess is the first of these"
    return f"not sure: below {least:.1%}, the threshold of serve.abstain: {stated}; the best guess is the first of these"


def tracking_ui(root: Path, port: int) -> int:
    """Run the tracking server in the foreground. Returns its exit code."""
    from components.registry.store import tracking_store
    from components.serving.replicas.address import check_address

    words = tracking_store.ui_command(root, port)
    check_address("127.0.0.1", port)
    tracking_store.client(
        root
    )  # makes the database where there is none, and mends its paths after a move
    _on_signal(_interrupt)
    # The address without a path opens MLflow's page of news.
    console.print(
        f"MLflow at http://127.0.0.1:{port}/#/experiments   (Ctrl-C ends it)", soft_wrap=True
    )
    process = subprocess.Popen(words, env={**os.environ, **tracking_store.ENVIRONMENT}, cwd=root)
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
    from components.registry.versions.model_versions import champion

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
