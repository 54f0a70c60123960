"""Serve the champion over HTTP, or answer one query from the command line."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from components.core.console import console, styled
from components.core.errors import EnvironmentFault, InputError
from components.orchestration.locks import only_one
from components.orchestration.pipeline_params import Params, load
from components.orchestration.project import keys_file, pipeline_files

if TYPE_CHECKING:
    from components.orchestration.service.registry_watch import Home
    from components.registry.versions.model_versions import Version
    from components.serving.http.keyring import Keyring
    from components.serving.params import ServeParams
    from components.serving.rollout.plan import ServedVersion

# Lines of an answer that are printed.
_LINES = 10


def hold(root: Path, name: str, host: str, port: int) -> None:
    """Serve the champion until Ctrl-C or SIGTERM.

    Args:
        root: of the project.
        name: of the pipeline.
        host: the address to listen on.
        port: to listen on; 0: any that is free.

    Raises:
        InputError: nothing was released yet.
        EnvironmentFault: the port is taken, a public host has no key, or another service of this
            pipeline runs.
    """
    from components.orchestration.cluster.local_cluster import attached, describe
    from components.orchestration.service.registry_watch import Home
    from components.serving.http.keyring import Keyring
    from components.serving.replicas.address import check_address

    params = _params(root, name)
    serve: ServeParams = params.sections["serve"]  # type: ignore[assignment]
    home = Home(root, params.name, serve)
    keys = Keyring.from_environment(keys_file(root))
    start = _deployer(root, params, home, keys, host, port)
    lock = root / "data" / ".state" / params.name / "serve.lock"
    with (
        only_one(lock, f"a service of pipeline {params.name}"),
        _ray_of_service(root, params.name) as apart,
    ):
        leading = _champion(root, params, name, spare=home.proven.is_file())
        if not os.environ.get("RAY_ADDRESS") and (apart or describe(root) is None):
            # A start of Ray would be in vain if the address cannot be used.
            check_address(host, port, keys.required)
        with attached(root, psutil.Process(), apart=apart):
            # Ray sets its own handlers when it starts.
            _on_signal(_interrupt)
            _serve(root, params, home, leading, start)


def _deployer(
    root: Path, params: Params, home: Home, keys: Keyring, host: str, port: int
) -> Callable[[ServedVersion], str]:
    """Return a function that deploys a version and returns the URL of the service."""
    from components.orchestration.drift.drift_check import monitoring
    from components.serving.replicas.deploy import deploy

    watched = monitoring(root, params)

    def start(served: ServedVersion) -> str:
        return deploy(
            served.bundle,
            app_name=params.name,
            route_prefix="/",
            host=host,
            port=port,
            params=home.params,
            model=served.model,
            plan_folder=home.plan_files.folder,
            keys=keys,
            monitoring=watched,
        )

    return start


def _serve(
    root: Path,
    params: Params,
    home: Home,
    leading: Version | None,
    start: Callable[[ServedVersion], str],
) -> None:
    """Serve the champion and follow the registry until an interrupt."""
    from components.orchestration.drift.drift_check import Watchman
    from components.orchestration.release_events import keep_sending
    from components.orchestration.service.registry_watch import begin, lead
    from components.registry.release.gates import gate_rules
    from components.serving.replicas.deploy import remove

    limits = params.sections["registry"].gates  # type: ignore[attr-defined]
    rules = gate_rules(params.task, limits)
    try:
        first, refused, url = begin(home, leading, start, _log_line)
        where = f"answers at {url}   (page {url}/  API {url}/docs  Ctrl-C ends it)"
        console.print(styled((params.name, "bold"), f" version {first.version} {where}"))
        Watchman(root, params, _log_line).start()
        keep_sending(root, params, home.params.poll_s, _log_line)
        lead(home, first, refused, url, rules, _log_line)
    except KeyboardInterrupt:
        # A second Ctrl-C must not interrupt the removal.
        _on_signal(signal.SIG_IGN)
        console.print("stopping …")
        remove(params.name)


@contextmanager
def _ray_of_service(root: Path, name: str) -> Iterator[Path | None]:
    """Choose the Ray of a service.

    The first service of a project uses the project's Ray. Another service gets a second Ray,
    because one Ray listens on one port.

    Yields:
        The folder for the record of the second Ray. None: the project's Ray is used.

    Raises:
        EnvironmentFault: RAY_ADDRESS names one cluster for all, and another service of this project
            runs.
    """
    lock = root / "data" / ".state" / "serve.lock"
    with ExitStack() as stack:
        try:
            stack.enter_context(only_one(lock, "a service of this project"))
            apart = None
        except EnvironmentFault as fault:
            if os.environ.get("RAY_ADDRESS"):
                raise EnvironmentFault(
                    f"{fault.what}; one cluster listens on one port",
                    where="RAY_ADDRESS",
                    remedy=(
                        "end the other service, or unset RAY_ADDRESS "
                        "to serve this pipeline from this machine"
                    ),
                ) from None
            apart = root / "data" / ".state" / "ray" / name
        yield apart


def _log_line(text: str) -> None:
    console.print(f"{time.strftime('%H:%M:%S')} {text}", soft_wrap=True)


def answer(root: Path, name: str, argument: str) -> None:
    """Print the champion's answer to a query.

    The model runs in a child process, because files of the registry may hang.

    Args:
        root: of the project.
        name: of the pipeline.
        argument: the query: a text, or the path of a picture.

    Raises:
        InputError: there is no champion, or it cannot answer the query.
        BundleError: the champion's files differ from those that were registered, or do not answer.
    """
    from pydantic import ValidationError

    from components.core.sandbox import SandboxedCall
    from components.fields.base import Reject
    from components.inference.predictor import first_answers
    from components.registry.versions.model_versions import fetch_registered
    from components.tasks import base

    if not argument.strip():
        raise InputError("the query is empty", remedy='gristmill predict "…"')
    # The child process starts while the registry is read.
    with (
        SandboxedCall(first_answers) as child,
        tempfile.TemporaryDirectory(prefix="gristmill-") as scratch,
    ):
        params, champion = released(root, name)
        abstain: float | None = params.sections["serve"].abstain  # type: ignore[attr-defined]
        evaluator = base.evaluator(params.task)
        bundle = fetch_registered(root, params.name, champion.number, Path(scratch))
        try:
            query = evaluator.read(argument).model_dump_json()
        except (Reject, ValidationError, OSError) as error:
            raise _unanswerable(argument, _reason(error)) from None
        result = child.call(
            bundle.folder,
            str(bundle.folder),
            bundle.digest,
            abstain,
            [query],
        )
    if "rejected" in result:
        raise _unanswerable(argument, result["rejected"])
    best: Any = evaluator.Answer.model_validate(result["answers"][0])
    if getattr(best, "abstained", False):
        console.print(_not_sure(result["least_confidence"], abstain))
    for line in _answer_lines(evaluator.summary(best)):
        console.print(line)
    model = f"{params.name} version {champion.number}, {result['title']}"
    console.print(f"{model}, data {result['data_hash'][:12]}", style="dim")


def _answer_lines(summary: Sequence[tuple[str, float | None]]) -> list[str]:
    """Return the first lines of an answer, each with a bar where it has a share."""
    lines = []
    for text, share in summary[:_LINES]:
        if share is None:
            lines.append(text)
        else:
            bar = "█" * round(share * 30)
            lines.append(f"{share:7.1%}  {bar:30}  {text}")
    return lines


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
        return (
            f"not sure: no threshold can promise serve.abstain: {stated}, so no answer is sure; "
            "the best guess is the first of these"
        )
    return (
        f"not sure: below {least:.1%}, the threshold of serve.abstain: {stated}; "
        "the best guess is the first of these"
    )


def tracking_ui(root: Path, port: int) -> int:
    """Run the tracking server in the foreground.

    Args:
        root: of the project.
        port: to listen on.

    Returns:
        The exit code of the server.

    Raises:
        EnvironmentFault: the port is taken.
    """
    from components.registry.store import tracking_store
    from components.serving.replicas.address import check_address

    words = tracking_store.ui_command(root, port)
    check_address("127.0.0.1", port)
    # Makes the database if there is none, and corrects its paths after a move of the project.
    tracking_store.client(root)
    _on_signal(_interrupt)
    # The address without a path opens MLflow's page of news.
    console.print(
        f"MLflow at http://127.0.0.1:{port}/#/experiments   (Ctrl-C ends it)", soft_wrap=True
    )
    process = subprocess.Popen(words, env={**os.environ, **tracking_store.ENVIRONMENT}, cwd=root)
    return _wait_for(process)


def _wait_for(process: subprocess.Popen[bytes]) -> int:
    """Wait for a process, and end it on an interrupt. Return its exit code, or 0."""
    try:
        return process.wait()
    except KeyboardInterrupt:
        process.terminate()
        process.wait(20)
        return 0


def _params(root: Path, name: str) -> Params:
    path = pipeline_files(root, name)[0]
    return load(path, shown=path.relative_to(root).as_posix())


def released(root: Path, name: str) -> tuple[Params, Version]:
    """Return the params and the champion of a pipeline.

    Args:
        root: of the project.
        name: of the pipeline.

    Raises:
        InputError: nothing was released yet.
    """
    params = _params(root, name)
    leading = _champion(root, params, name)
    assert leading is not None
    return params, leading


def _champion(
    root: Path,
    params: Params,
    name: str,
    spare: bool = False,
) -> Version | None:
    """Return the released version.

    Args:
        root: of the project.
        params: of the pipeline.
        name: of the pipeline, for the error message.
        spare: whether an earlier version can be served instead.

    Returns:
        The version. None: it is unknown, and an earlier version can be served.

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
        _log_line(f"the registry does not say who is champion: {error}")
        return None
    if leading is None and spare:
        return None
    if leading is None:
        raise _no_champion(name)
    return leading


def _no_champion(name: str) -> InputError:
    command = "gristmill run" if name == "default" else f"gristmill run {name}"
    return InputError(
        f"pipeline {name!r} has no champion yet",
        where="registry",
        remedy=f"{command}; if it ran already, a gate has refused its model: gristmill status",
    )


def _on_signal(handler: Callable[..., object] | signal.Handlers) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, handler)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt
