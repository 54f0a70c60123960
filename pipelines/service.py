"""The champion at work: over HTTP, or asked once from the command line."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
import threading
from pathlib import Path

import psutil
from rich.markup import escape

from components.core.errors import InputError
from pipelines.params import load
from pipelines.run import files_of
from pipelines.watch import console


def hold(root: Path, name: str, host: str, port: int) -> None:
    """Deploy the champion and keep it up until Ctrl-C or SIGTERM.

    Raises:
        InputError: nothing was released yet.
        EnvironmentFault: port taken, a public host without a key.
    """
    from components.registry.versions import champion, fetch
    from components.serve.deploy import deploy, remove
    from components.serve.stage import info
    from pipelines.cluster import attached

    params = load(files_of(root, name)[0])
    leading = champion(root, params.name)
    if leading is None:
        raise InputError(f"pipeline {name!r} has no champion yet", where="registry", remedy=f"gristmill run {name}; gates may have refused it: gristmill status")
    stop = threading.Event()
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, lambda *_: stop.set())
    with tempfile.TemporaryDirectory(prefix="gristmill-") as scratch, attached(root, psutil.Process()):
        bundle = fetch(root, params.name, leading.number, Path(scratch))
        model = info(params.name, leading.number, bundle, json.loads(leading.tags.get("examples", "[]")))
        url = deploy(bundle, app_name=params.name, route_prefix="/", host=host, port=port, params=params.sections["serve"], model=model)  # type: ignore[arg-type]
        console.print(f"[bold]{escape(params.name)}[/bold] version {leading.number} answers at {url}   (page {url}/  API {url}/docs  Ctrl-C ends it)")
        stop.wait()
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
    from components.registry.versions import champion, fetch

    params = load(files_of(root, name)[0])
    leading = champion(root, params.name)
    if leading is None:
        raise InputError(f"pipeline {name!r} has no champion yet", where="registry", remedy=f"gristmill run {name}")
    with tempfile.TemporaryDirectory(prefix="gristmill-") as scratch:
        predictor = load_bundle(fetch(root, params.name, leading.number, Path(scratch)))
    try:
        given = predictor.predict([predictor.judge.read(argument)])[0]
    except (Reject, ValidationError, OSError) as error:
        reason = error.reason if isinstance(error, Reject) else str(error).splitlines()[0]
        raise InputError(f"the query cannot be used: {reason}", where=argument[:60], remedy="ask something else") from None
    for label, probability in sorted(given.probabilities.items(), key=lambda item: -item[1])[:10]:
        console.print(f"{probability:7.1%}  {'█' * round(probability * 30):30}  {escape(label)}")
    console.print(f"[dim]{escape(params.name)} version {leading.number}, {escape(predictor.card.title)}, data {predictor.card.data_hash[:12]}[/dim]")


def tracking_ui(root: Path, port: int) -> int:
    """Run the tracking server in the foreground. Returns its exit code."""
    from components.registry import store

    store.client(root)  # makes the database where there is none, and mends its paths after a move
    console.print(f"MLflow at http://127.0.0.1:{port}   (Ctrl-C ends it)")
    process = subprocess.Popen(store.ui_command(root, port), env={**os.environ, **store.ENVIRONMENT}, cwd=root)
    try:
        return process.wait()
    except KeyboardInterrupt:
        process.terminate()
        process.wait(20)
        return 0
