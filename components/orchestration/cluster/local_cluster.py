"""The cluster that a command works on: RAY_ADDRESS, or one embedded Ray for each project.

An embedded Ray starts when a process first needs it. It ends when the processes that it was
started for, its owners, have ended.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil

from components.core.errors import EnvironmentFault
from components.orchestration.cluster.connection import connected, joined
from components.orchestration.cluster.supervisor import (
    Record,
    end,
    environment,
    load,
    lock_path,
    record_path,
)
from components.orchestration.disk_faults import check_writable
from components.orchestration.locks import only_one, this_command
from components.orchestration.processes import Identity, alive, identify, send, wait_until

# Ray starts in 5 s on two cores. A busy machine takes many times that.
START_S = 120.0
_STOP_S = 30.0
_POLL_S = 0.1
# Most bytes of the object store.
_STORE = 2**30
# Least bytes of the object store; Ray refuses less.
_LEAST_STORE = 80 * 2**20
# Bytes of shared memory below which the object store lies on disk. Containers have 64 MiB by
# default.
_SMALL_SHM = 512 * 2**20
_MIB = 2**20
# Of Ray's log in a message.
_LOG_LINES = 8
_LOG_CHARACTERS = 200


@contextmanager
def attached(
    root: Path, owner: psutil.Process | None, *, apart: Path | None = None
) -> Iterator[str]:
    """Connect this process to Ray while the block runs.

    Args:
        root: of the project.
        owner: an embedded Ray stays at least until this process ends; None: until `stop`.
        apart: a folder for the record of a second embedded Ray, beside the project's: one Ray has
            one port for HTTP, and a second service needs another.

    Yields:
        The address.

    Raises:
        EnvironmentFault: RAY_ADDRESS does not answer, or Ray does not start.
    """
    address = os.environ.get("RAY_ADDRESS", "")
    if address and address != "local":
        with joined(address, root):
            yield address
        return
    record = start(root, owner, apart=apart)
    remedy = "gristmill down, then run the same command again"
    try:
        with connected(record.address, environment(record.token), remedy):
            yield record.address
    finally:
        if owner and owner.pid == os.getpid():
            release(apart or root, owner)


def start(root: Path, owner: psutil.Process | None, *, apart: Path | None = None) -> Record:
    """Return the embedded Ray of a project, with one more owner; start it where none runs.

    Args:
        root: of the project.
        owner: the process that Ray is started for; None: Ray runs until `stop`.
        apart: a folder for the record of a second embedded Ray.

    Raises:
        EnvironmentFault: it does not start; carries the last lines of its log.
    """
    code = root.resolve()
    root = (apart or root).resolve()
    new_owner = None
    if owner:
        new_owner = identify(owner.pid)
        if not new_owner:
            raise EnvironmentFault(
                f"process {owner.pid}, for which Ray is needed, has ended",
                where="cluster",
                remedy="run the same command again",
            )
    with _locked(root):
        record = load(root)
        if record and record.usable:
            record = _with_owner(record, new_owner)
            record.save()
            return record
        # Whoever starts Ray holds the lock until the record has an address. A record without one
        # is of a start that was cut off.
        _clear(root, record)
        return _launch(root, new_owner, code)


def stop(root: Path) -> bool:
    """End the embedded Ray of a project, or remove what a killed one left.

    Args:
        root: of the project, or the folder of a second Ray.

    Returns:
        Whether there was any.
    """
    root = root.resolve()
    with _locked(root):
        record = load(root)
        _clear(root, record)
        return record is not None


def release(root: Path, owner: psutil.Process) -> None:
    """Take an owner away from the embedded Ray, and end Ray where it was the last.

    Args:
        root: of the project, or the folder of a second Ray.
        owner: the process that needs Ray no longer.
    """
    root = root.resolve()
    with _locked(root):
        record = load(root)
        if record is None or record.owners is None:
            return
        others = [other for other in record.owners if other.pid != owner.pid and alive(other)]
        record = replace(record, owners=others)
        if record.owners:
            record.save()
        else:
            _clear(root, record)


@contextmanager
def _locked(root: Path) -> Iterator[None]:
    with only_one(lock_path(root), "the start or stop of Ray", wait=START_S + _STOP_S):
        yield


def _with_owner(record: Record, owner: Identity | None) -> Record:
    """Return the record with one more owner; without owners where one of both has none."""
    if owner is None or record.owners is None:
        return replace(record, owners=None)
    owners = {*record.owners, owner}
    return replace(record, owners=sorted(filter(alive, owners)))


def describe(root: Path) -> dict[str, Any] | None:
    """Return what `gristmill status` shows of the embedded Ray; None if there is none.

    `state` is "running", "starting", or "gone" where Ray was killed. The next command removes what
    a killed Ray left.

    Args:
        root: of the project.
    """
    record = load(root.resolve())
    if record is None:
        return None
    owners = None
    if record.owners is not None:
        owners = [owner.pid for owner in record.owners if alive(owner)]
    return {
        "state": _state(record),
        "address": record.address,
        "pid": record.node.pid,
        "owners": owners,
        "temp": record.temp,
        "started_by": record.started_by,
        "since": record.since,
    }


def _state(record: Record) -> str:
    if record.usable:
        return "running"
    if record.starting:
        return "starting"
    return "gone"


def owner_of_stage() -> psutil.Process:
    """Return the process for which a stage starts Ray, so that one Ray serves all stages.

    It is the `gristmill run` above the stage, else the dvc above it, else the stage itself.
    """
    stage = psutil.Process()
    parents = stage.parents()
    runner = os.environ.get("GRISTMILL_OWNER_PID", "")
    for parent in parents:
        if str(parent.pid) == runner:
            return parent
    for parent in parents:
        with suppress(psutil.Error):
            if any(Path(part).name == "dvc" for part in parent.cmdline()[:3]):
                return parent
    return stage


def store_options(shm: Path = Path("/dev/shm")) -> list[str]:  # noqa: S108
    """Return the options of `ray start` for an object store that does not fill shared memory.

    Args:
        shm: where shared memory is mounted.

    Returns:
        Options, in which `{temp}` stands for Ray's temporary folder.

    Raises:
        EnvironmentFault: shared memory is full.
    """
    if not shm.is_dir():
        return [f"--object-store-memory={_STORE // 4}"]
    memory = shutil.disk_usage(shm)
    if memory.total < _SMALL_SHM:
        return [f"--object-store-memory={_STORE // 4}", "--plasma-directory={temp}"]
    store = memory.free // 5
    if store < _LEAST_STORE:
        free = memory.free / _MIB
        total = memory.total / _MIB
        needed = 5 * _LEAST_STORE / _MIB
        raise EnvironmentFault(
            f"is nearly full: {free:.0f} of {total:.0f} MiB free, Ray needs {needed:.0f}",
            where=str(shm),
            remedy=f"see what fills it (ls -lS {shm}), delete what no process uses; "
            "in a container start it with a larger --shm-size",
        )
    return [f"--object-store-memory={min(_STORE, store)}"]


def _launch(root: Path, owner: Identity | None, code: Path) -> Record:
    """Start a supervisor with its Ray, and return the record when Ray can be used.

    Args:
        root: folder of the record.
        owner: the first owner; None: Ray runs until `stop`.
        code: the project whose modules the supervisor imports.

    Raises:
        EnvironmentFault: Ray does not start; carries the last lines of its log.
    """
    log = record_path(root).with_suffix(".log")
    supervisor = _start_supervisor(root, owner, code, log)
    try:
        deadline = time.monotonic() + START_S
        while supervisor.poll() is None and time.monotonic() < deadline:
            record = load(root)
            if record and record.supervisor.pid == supervisor.pid and record.usable:
                return record
            time.sleep(_POLL_S)
        raise _start_fault(supervisor, log)
    except BaseException:
        supervisor.terminate()
        supervisor.wait(_STOP_S)
        raise


def _start_supervisor(
    root: Path, owner: Identity | None, code: Path, log: Path
) -> subprocess.Popen[bytes]:
    order = {
        "root": str(root),
        "owners": [owner] if owner else None,
        "started_by": this_command(),
        "store": store_options(),
    }
    module = "components.orchestration.cluster.supervisor"
    import_paths = [str(code)]
    if os.environ.get("PYTHONPATH"):
        import_paths.append(os.environ["PYTHONPATH"])
    check_writable(log.parent)
    with log.open("wb") as output:
        return subprocess.Popen(
            [sys.executable, "-m", module, json.dumps(order)],
            cwd=code,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(import_paths)},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )


def _start_fault(supervisor: subprocess.Popen[bytes], log: Path) -> EnvironmentFault:
    """Return the error of a Ray that did not start, with the last lines of its log."""
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    how = f"was not ready after {START_S:.0f} s"
    if supervisor.poll() is not None:
        how = "ended"
    last = "".join(f"\n    {line[:_LOG_CHARACTERS]}" for line in lines[-_LOG_LINES:])
    return EnvironmentFault(
        f"Ray {how} while starting. The last lines of its log:{last}",
        where=str(log),
        remedy="gristmill doctor looks for the cause; then run the same command again",
    )


def _clear(root: Path, record: Record | None) -> None:
    """Have the supervisor end its Ray, or end Ray here where the supervisor is gone.

    The caller holds the lock.
    """
    if record is None:
        return
    if alive(record.supervisor):
        send(record.supervisor, signal.SIGTERM)
        wait_until(lambda: not alive(record.supervisor), _STOP_S)
    end(record)
    record_path(root).unlink(missing_ok=True)
