"""The champion at work: over HTTP, or asked once from the command line."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
from rich.markup import escape

from components.core.errors import InputError
from pipelines.lock import only_one
from pipelines.params import Params, load
from pipelines.run import files_of
from pipelines.watch import console

if TYPE_CHECKING:
    from components.registry.versions import Version


def hold(root: Path, name: str, host: str, port: int) -> None:
    """Deploy the champion and keep it up until Ctrl-C or SIGTERM.

    Raises:
        InputError: nothing was released yet.
        EnvironmentFault: port taken, a public host without a key, another service of this project.
    """
    from components.registry.versions import fetch
    from components.serve.deploy import check_address, deploy, remove
    from components.serve.stage import info
    from pipelines.cluster import attached, describe

    params, leading = released(root, name)
    with only_one(root / "data" / ".state" / "serve.lock", "a service of this project"), tempfile.TemporaryDirectory(prefix="gristmill-") as scratch:
        if not os.environ.get("RAY_ADDRESS") and describe(root) is None:
            check_address(host, port)  # before Ray is started for nothing
        with attached(root, psutil.Process()):
            _on_signal(_interrupt)  # not earlier: Ray sets its own
            bundle = fetch(root, params.name, leading.number, Path(scratch))
            model = info(params.name, leading.number, bundle, json.loads(leading.tags.get("examples", "[]")))
            try:
                url = deploy(bundle, app_name=params.name, route_prefix="/", host=host, port=port, params=params.sections["serve"], model=model)  # type: ignore[arg-type]
                console.print(f"[bold]{escape(params.name)}[/bold] version {leading.number} answers at {url}   (page {url}/  API {url}/docs  Ctrl-C ends it)")
                threading.Event().wait()
            except KeyboardInterrupt:
                _on_signal(signal.SIG_IGN)  # once is enough
                console.print("stopping …")
                remove(params.name)


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
    with tempfile.TemporaryDirectory(prefix="gristmill-") as scratch:
        predictor = load_bundle(fetch(root, params.name, leading.number, Path(scratch)))
    try:
        given = predictor.predict([predictor.judge.read(argument)])[0]
    except (Reject, ValidationError, OSError) as error:
        reason = error.reason if isinstance(error, Reject) else error.strerror if isinstance(error, OSError) else error.errors()[0]["msg"]
        raise InputError(f"{argument[:60]!r} cannot be answered: {reason}", remedy="ask something else") from None
    for label, probability in sorted(given.probabilities.items(), key=lambda item: -item[1])[:10]:
        console.print(f"{probability:7.1%}  {'█' * round(probability * 30):30}  {escape(label)}")
    console.print(f"[dim]{escape(params.name)} version {leading.number}, {escape(predictor.card.title)}, data {predictor.card.data_hash[:12]}[/dim]")


def tracking_ui(root: Path, port: int) -> int:
    """Run the tracking server in the foreground. Returns its exit code."""
    from components.registry import store
    from components.serve.deploy import check_address

    words = store.ui_command(root, port)
    check_address("127.0.0.1", port)
    store.client(root)  # makes the database where there is none, and mends its paths after a move
    _on_signal(_interrupt)
    console.print(f"MLflow at http://127.0.0.1:{port}   (Ctrl-C ends it)")
    process = subprocess.Popen(words, env={**os.environ, **store.ENVIRONMENT}, cwd=root)
    try:
        return process.wait()
    except KeyboardInterrupt:
        process.terminate()
        process.wait(20)
        return 0


def released(root: Path, name: str) -> tuple[Params, Version]:
    """Params and champion of a pipeline.

    Raises:
        InputError: nothing was released yet.
    """
    from components.registry.versions import champion

    path = files_of(root, name)[0]
    params = load(path, shown=path.relative_to(root).as_posix())
    leading = champion(root, params.name)
    if leading is None:
        again = "gristmill run" if name == "default" else f"gristmill run {name}"
        raise InputError(f"pipeline {name!r} has no champion yet", where="registry", remedy=f"{again}; if it ran already, a gate has refused its model: gristmill status")
    return params, leading


def _on_signal(handler: Callable[..., object] | signal.Handlers) -> None:
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, handler)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt
