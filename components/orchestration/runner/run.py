"""Implementation of `gristmill run`: checks, the lock, `dvc repro` and the summary."""

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
from components.core.energy import EnergyMeter
from components.core.errors import EnvironmentFault, InputError
from components.core.terminal import print_line
from components.orchestration import interrupt
from components.orchestration.locks import only_one
from components.orchestration.output_paths import check_input_path
from components.orchestration.pipeline_params import Params, load
from components.orchestration.processes import end_with_parent
from components.orchestration.project import FRESH, pipeline_files
from components.orchestration.release_events import send_events
from components.orchestration.runner.dvc_lock import repair_rwlock, restore_lock
from components.orchestration.runner.gitignore import check_not_in_git, ignore_outputs
from components.orchestration.runner.pull import pull_first
from components.orchestration.runner.stage_commands import check_stage_commands
from components.orchestration.runner.stage_failure import last_failure
from components.orchestration.runner.stage_results import drop_results
from components.orchestration.runner.summary import show_summary
from components.orchestration.stage_files import STAGES
from components.orchestration.untracked_files import check_untracked

# Seconds between two looks at DVC.
_POLL_S = 0.3
# Seconds from Ctrl-C until this process sends SIGINT itself.
_INTERRUPT_S = 2.0
# Seconds from the first signal to SIGKILL. A stage ends by itself before.
_KILL_S = interrupt.GRACE_S + 1.0
# Seconds after which MLflow is imported. A run with nothing new to do has ended by then.
_IMPORT_MLFLOW_S = 15.0


# Command that goes on with a stopped run, where another one than `gristmill run` has started it.
RESUME_COMMAND = "GRISTMILL_RUN_RESUME_COMMAND"


def run_pipeline(root: Path, name: str, fresh: bool = False) -> int:
    """Run a pipeline through DVC, and return the exit code.

    Args:
        root: of the project.
        name: of the pipeline.
        fresh: run all stages again, without their resumable state.

    Raises:
        ParamsError: params.yaml is wrong; nothing was run.
        InputError: the source is missing, or files of a person would be deleted; nothing was run.
        EnvironmentFault: another run is under way.
    """
    params_file, dvc_file = pipeline_files(root, name)
    params = load(params_file, shown=params_file.relative_to(root).as_posix())
    check_stage_commands(root, dvc_file)
    command = "gristmill run" if name == "default" else f"gristmill run {name}"
    token = f"run-{uuid.uuid4().hex[:12]}"
    started = time.monotonic()
    with only_one(root / "data" / ".state" / "run.lock", "a run of this project"):
        send_events(root, params)
        _prepare(root, params, dvc_file, command)
        # This import reads tables, so it follows the checks: errors are printed without delay.
        from components.orchestration.retraining import run_record

        close = run_record.begin(root, params)
        environment = _environment(token, fresh)
        words = _repro_words(root, dvc_file, fresh)
        _import_mlflow_later()
        code = None
        try:
            with EnergyMeter() as energy:
                code = _follow(words, root, environment)
                joules = energy.joules()
        finally:
            # A stopped run ends soon. The next one writes to MLflow what waits, and the supervisor
            # of Ray sees that the last owner has ended.
            if code != interrupt.EXIT_CODE:
                _write_to_mlflow(root)
            _release_cluster(root)
    if code:
        return _report_stop(root, token, code, os.environ.get(RESUME_COMMAND, command))
    drop_results(root, params)
    show_summary(root, params, command)
    close(time.monotonic() - started)
    used = "" if joules is None else f" and {joules / 3600:.3g} Wh"
    console.print(f"{command} took {time.monotonic() - started:.1f} s{used}", style="dim")
    return 0


def _prepare(root: Path, params: Params, dvc_file: Path, command: str) -> None:
    """Repair dvc.lock, check the workspace, and pull new rows.

    Args:
        root: of the project.
        params: of the pipeline.
        dvc_file: its dvc.yaml.
        command: the command that goes on after an error.
    """
    data = params.pipeline.data
    repair_rwlock(root)
    if restore_lock(root, params):
        print_line("dvc.lock was cut off in the middle: it is as it was before that stage")
    check_untracked(root, params.name, data, dvc_file.with_name("dvc.lock"), again=command)
    check_not_in_git(root, data, STAGES, again=command)
    pull_first(root, params)
    _check_source(root, params)
    ignore_outputs(root, data)


def _environment(token: str, fresh: bool) -> dict[str, str]:
    """Return the environment of DVC and of the stages that it calls."""
    # dvc.yaml names `python`, which is to be the interpreter of this process.
    search_path = [str(Path(sys.executable).parent), os.environ.get("PATH", "")]
    environment = {
        **os.environ,
        "GRISTMILL_RUN": token,
        "GRISTMILL_OWNER_PID": str(os.getpid()),
        "PATH": os.pathsep.join(search_path),
        "PYTHONUNBUFFERED": "1",
    }
    if fresh:
        environment[FRESH] = "1"
    return environment


def _repro_words(root: Path, dvc_file: Path, fresh: bool) -> list[str]:
    words = [sys.executable, "-m", "components.orchestration.runner.dvc_entry_point", "repro"]
    if fresh:
        words.append("--force")
    return [*words, dvc_file.relative_to(root).as_posix()]


def _report_stop(root: Path, token: str, code: int, command: str) -> int:
    """Print where a run stopped and how to go on, and return its exit code.

    Args:
        root: of the project.
        token: of the run.
        code: exit code of DVC, or that of a run that was stopped.
        command: the command that goes on.
    """
    failure = last_failure(root, token)
    if failure:
        position = f" in stage {failure['stage']}"
        exit_code = int(failure["exit_code"])
    elif code == interrupt.EXIT_CODE:
        position = ""
        exit_code = code
    else:
        position = " in DVC itself, which says above what to mend"
        exit_code = EnvironmentFault.exit_code
    print_line(
        f"the run stopped{position}; what was finished is kept. To go on: {command}", err=True
    )
    return exit_code


def _follow(words: list[str], root: Path, environment: dict[str, str]) -> int:
    """Run DVC to its end, and return the exit code.

    Ctrl-C and SIGTERM end DVC and the stage within seconds.
    """
    signals: list[int] = []
    interrupt_handler = signal.getsignal(signal.SIGINT)
    is_ignored = interrupt_handler is signal.SIG_IGN
    if is_ignored:
        # The background job of a script ignores SIGINT. The programs that it starts would inherit
        # that, so a stage could not be stopped.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen(words, cwd=root, env=environment, preexec_fn=end_with_parent)

    def record_signal(number: int, _: object) -> None:
        signals.append(number)

    terminate_handler = signal.getsignal(signal.SIGTERM)
    signal.signal(signal.SIGTERM, record_signal)
    signal.signal(signal.SIGINT, signal.SIG_IGN if is_ignored else record_signal)
    try:
        code = _wait(process, signals)
        return interrupt.EXIT_CODE if signals else code
    finally:
        signal.signal(signal.SIGINT, interrupt_handler)
        signal.signal(signal.SIGTERM, terminate_handler)


def _wait(process: subprocess.Popen[bytes], signals: list[int]) -> int:
    """Wait for DVC, and return its exit code.

    After the first signal to this process, the group gets SIGINT, and later SIGKILL.

    Args:
        process: of DVC.
        signals: numbers of the signals that have come; it grows meanwhile.
    """
    began = 0.0
    # Signals to send, with seconds after the first one that came.
    steps: list[tuple[float, signal.Signals]] = []
    while True:
        with suppress(subprocess.TimeoutExpired):
            return process.wait(_POLL_S)
        if signals and not began:
            began = time.monotonic()
            # A terminal sends SIGINT to the whole group. A signal that comes while a stage loads a
            # library may be lost there, and DVC itself ignores it.
            delay = _INTERRUPT_S if signals[0] == signal.SIGINT else 0.0
            steps = [(delay, signal.SIGINT), (_KILL_S, signal.SIGKILL)]
        if steps and time.monotonic() - began >= steps[0][0]:
            _, number = steps.pop(0)
            interrupt.signal_group(number)


def _check_source(root: Path, params: Params) -> None:
    """Raise unless the source exists. The message of DVC would be less clear.

    Raises:
        InputError: the source is missing, or its path is not allowed.
    """
    # The model of the section is made at run time.
    ingest: Any = params.sections["ingest"]
    source = ingest.source
    where = f"{params.pipeline.params}: ingest.source.path"
    check_input_path(root, params.name, source.path, where)
    if not (root / source.path).exists():
        raise InputError(
            f"{source.path!r} does not exist",
            where=where,
            remedy="name an existing file or folder, relative to the project or absolute",
        )


def _import_mlflow_later() -> None:
    """Import MLflow in a thread while stages work.

    A run that computed anything writes to MLflow at its end, and the import takes three seconds.
    """
    from components.registry.store.tracking_store import quiet

    def work() -> None:
        time.sleep(_IMPORT_MLFLOW_S)
        quiet()
        with suppress(ImportError):
            import mlflow  # noqa: F401

    threading.Thread(target=work, daemon=True).start()


def _write_to_mlflow(root: Path) -> None:
    """Write to MLflow what short stages left to the end of the run.

    A store that cannot be reached gets it later.
    """
    from components.registry.tracking.outbox import catch_up, waiting

    if not waiting(root):
        return
    try:
        catch_up(root)
    # The results of a run never depend on MLflow.
    except Exception as error:
        print_line(
            f"MLflow: {error}. What is missing there is written by the next run, "
            "or by gristmill mlflow catch-up.",
            err=True,
        )


def _release_cluster(root: Path) -> None:
    """Stop the Ray that stages started for this process, unless it has other owners."""
    from components.orchestration.cluster.local_cluster import release

    release(root, psutil.Process())
