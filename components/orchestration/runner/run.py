"""`gristmill run`: validate, lock, `dvc repro`, summary."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from components.core.console import console
from components.core.errors import EnvironmentFault, InputError, ParamsError
from components.core.terminal import print_line
from components.orchestration import interrupt
from components.orchestration.locks import only_one
from components.orchestration.output_paths import check_input_path
from components.orchestration.pipeline_params import Params, load
from components.orchestration.processes import end_with_parent
from components.orchestration.project import FRESH
from components.orchestration.runner.dvc_lock import restore_lock
from components.orchestration.runner.gitignore import check_not_in_git, ignore_outputs
from components.orchestration.runner.pull import pull_first
from components.orchestration.runner.stage_failure import last_failure
from components.orchestration.runner.stage_results import drop_results
from components.orchestration.runner.summary import show_summary
from components.orchestration.stage_files import STAGES
from components.orchestration.untracked_files import check_untracked

_LOOK_S = 0.3
_PATIENCE_S = 2.0
# A stage ends by itself before.
_KILL_S = interrupt.GRACE_S + 1.0
# A run of nothing new has ended by then.
_RUN_WORKS_S = 15.0


def files_of(root: Path, name: str) -> tuple[Path, Path]:
    """params.yaml and dvc.yaml of a pipeline.

    Raises:
        ParamsError: there is no such pipeline.
    """
    folder = root if name == "default" else root / "pipelines" / name
    if not (folder / "params.yaml").is_file() or not (folder / "dvc.yaml").is_file():
        known = [
            "default",
            *sorted(path.parent.name for path in root.glob("pipelines/[!.]*/dvc.yaml")),
        ]
        raise ParamsError(
            f"there is no pipeline {name!r}; there are {', '.join(known)}",
            remedy="gristmill new NAME --task T --data FILE makes one",
        )
    return folder / "params.yaml", folder / "dvc.yaml"


def run_pipeline(root: Path, name: str, fresh: bool = False) -> int:
    """Run a pipeline through DVC. Returns the exit code.

    Raises:
        ParamsError: params.yaml is wrong; nothing was run.
        EnvironmentFault: another run is under way.
    """
    params_file, dvc_file = files_of(root, name)
    params = load(params_file, shown=params_file.relative_to(root).as_posix())
    again = "gristmill run" if name == "default" else f"gristmill run {name}"
    token, started = f"run-{uuid.uuid4().hex[:12]}", time.monotonic()
    with only_one(root / "data" / ".state" / "run.lock", "a run of this project"):
        if restore_lock(root, params):
            print_line("dvc.lock was cut off in the middle: it is as it was before that stage")
        check_untracked(
            root, params.name, params.pipeline.data, dvc_file.with_name("dvc.lock"), again=again
        )
        check_not_in_git(root, params.pipeline.data, STAGES, again=again)
        pull_first(root, params)
        _check_source(root, params)
        ignore_outputs(root, params.pipeline.data)
        from components.orchestration.retraining import (
            run_record,  # after what is wrong was told, for it reads tables
        )

        close = run_record.begin(root, params)
        environment = {
            **os.environ,
            "GRISTMILL_RUN": token,
            "GRISTMILL_OWNER_PID": str(os.getpid()),
            "PATH": os.pathsep.join(
                [str(Path(sys.executable).parent), os.environ.get("PATH", "")]
            ),  # dvc.yaml says `python`: this one
            "PYTHONUNBUFFERED": "1",
            **({FRESH: "1"} if fresh else {}),  # reaches the stages through DVC
        }
        words = [
            sys.executable,
            "-m",
            "components.orchestration.runner.dvc_repro",
            "repro",
            *(["--force"] if fresh else []),
            dvc_file.relative_to(root).as_posix(),
        ]
        _import_mlflow_later()
        code = None
        try:
            code = _follow(words, root, environment)
        finally:
            # A run that was stopped ends soon: the next one writes what waits, and Ray's supervisor
            # sees that nobody needs it.
            if code != interrupt.EXIT_CODE:
                _write_to_mlflow(root)
            _release_cluster(root)
    if code:
        failed = last_failure(root, token)
        place = (
            f" in stage {failed['stage']}"
            if failed
            else ""
            if code == 130
            else " in DVC itself, which says above what to mend"
        )
        print_line(
            f"the run stopped{place}; what was finished is kept. To go on: {again}", err=True
        )
        return (
            int(failed["exit_code"])
            if failed
            else code
            if code == 130
            else EnvironmentFault.exit_code
        )
    drop_results(root, params)
    show_summary(root, params, again)
    close(time.monotonic() - started)
    console.print(f"{again} took {time.monotonic() - started:.1f} s", style="dim")
    return 0


def _follow(words: list[str], root: Path, environment: dict[str, str]) -> int:
    """Run DVC to its end; Ctrl-C and SIGTERM end it and the stage within seconds."""
    signals: list[int] = []
    ours = signal.getsignal(signal.SIGINT)
    if ours is signal.SIG_IGN:
        # A script's background job ignores it, and so would all that it starts: nobody could stop
        # a stage.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen(words, cwd=root, env=environment, preexec_fn=end_with_parent)

    def note(number: int, _: object) -> None:
        signals.append(number)

    before = [(number, signal.getsignal(number)) for number in (signal.SIGINT, signal.SIGTERM)]
    signal.signal(signal.SIGTERM, note)
    signal.signal(signal.SIGINT, signal.SIG_IGN if ours is signal.SIG_IGN else note)
    try:
        code = _wait(process, signals)
        return interrupt.EXIT_CODE if signals else code
    finally:
        for number, handler in before:
            signal.signal(number, ours if number == signal.SIGINT else handler)


def _wait(process: subprocess.Popen[bytes], signals: list[int]) -> int:
    """Wait for DVC; signals that come meanwhile are passed on, and then enforced."""
    began = 0.0
    # What to do, and when: seconds after the first signal.
    steps: list[tuple[float, signal.Signals]] = []
    while True:
        with suppress(subprocess.TimeoutExpired):
            return process.wait(_LOOK_S)
        if signals and not began:
            began = time.monotonic()
            # A terminal has told all of them itself. A signal that comes while a stage loads a
            # library may be lost there, and DVC itself passes over it.
            first = _PATIENCE_S if signals[0] == signal.SIGINT else 0.0
            steps = [(first, signal.SIGINT), (_KILL_S, signal.SIGKILL)]
        if steps and time.monotonic() - began >= steps[0][0]:
            interrupt.signal_group(steps.pop(0)[1])


def _check_source(root: Path, params: Params) -> None:
    """DVC would say it less clearly: the source must be there."""
    ingest: Any = params.sections["ingest"]  # its class is made at run time
    source = ingest.source
    check_input_path(
        root, params.name, source.path, f"{params.pipeline.params}: ingest.source.path"
    )
    if not (root / source.path).exists():
        raise InputError(
            f"{source.path!r} does not exist",
            where=f"{params.pipeline.params}: ingest.source.path",
            remedy="name an existing file or folder, relative to the project or absolute",
        )


def _import_mlflow_later() -> None:
    """Import MLflow while stages work: a run that did anything writes to it at its end, and the import takes three seconds."""

    from components.registry.store.tracking_store import quiet

    def work() -> None:
        time.sleep(_RUN_WORKS_S)
        quiet()
        with suppress(ImportError):
            import mlflow  # noqa: F401

    threading.Thread(target=work, daemon=True).start()


def _write_to_mlflow(root: Path) -> None:
    """Write what short stages left to the end of the run; a store that is away gets it later."""
    from components.registry.tracking.outbox import catch_up, waiting

    if not waiting(root):
        return
    try:
        catch_up(root)
    except Exception as error:  # results never depend on MLflow
        print_line(
            f"MLflow: {error}. What is missing there is written by the next run, or by gristmill mlflow catch-up.",
            err=True,
        )


def _release_cluster(root: Path) -> None:
    """Stop the Ray that stages started for this process, unless somebody else uses it."""
    from components.orchestration.cluster.local_cluster import release

    release(root, psutil.Process())
