"""The cluster that a command works on: RAY_ADDRESS, or one embedded Ray per root, started when first needed and ended with those it was started for."""

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

START_S = 120.0  # 7 s on two idle cores; a busy machine takes many times that
_STOP_S = 30.0
_STORE = 2**30  # bytes of object store at most
_LEAST_STORE = 80 * 2**20  # Ray refuses less
_SMALL_SHM = 512 * 2**20  # containers have 64 MiB unless told otherwise


@contextmanager
def attached(
    root: Path, owner: psutil.Process | None, *, apart: Path | None = None
) -> Iterator[str]:
    """Connect this process to Ray while the block runs.

    Args:
        root: of the project.
        owner: an embedded Ray that is started or joined stays at least until this process ends; None: until `stop`.
        apart: a folder for the record of an embedded Ray beside the project's: one Ray has one port for HTTP, and a second service needs another.

    Yields:
        The address.

    Raises:
        EnvironmentFault: RAY_ADDRESS does not answer, or Ray does not start.
    """
    given = os.environ.get("RAY_ADDRESS", "")
    if given and given != "local":
        with joined(given, root):
            yield given
        return
    record = start(root, owner, apart=apart)
    try:
        with connected(
            record.address,
            environment(record.token),
            "gristmill down, then run the same command again",
        ):
            yield record.address
    finally:
        if owner and owner.pid == os.getpid():
            release(apart or root, owner)


def start(root: Path, owner: psutil.Process | None, *, apart: Path | None = None) -> Record:
    """The embedded Ray of this root, or of a folder apart from it: the one that runs, with one more owner, or a new one.

    Raises:
        EnvironmentFault: it does not start; carries the last lines of its log.
    """
    code, root = root.resolve(), (apart or root).resolve()
    mine = identify(owner.pid) if owner else None
    if owner and not mine:
        raise EnvironmentFault(
            f"process {owner.pid}, for which Ray is needed, has ended",
            where="cluster",
            remedy="run the same command again",
        )
    with only_one(lock_path(root), "the start or stop of Ray", wait=START_S + _STOP_S):
        record = load(root)
        if record and record.usable:
            owners = (
                None
                if mine is None or record.owners is None
                else sorted(filter(alive, {*record.owners, mine}))
            )
            record = replace(record, owners=owners)
            record.save()
            return record
        # A record without an address is a start that was cut off: whoever starts holds the lock until there is one.
        _clear(root, record)
        return _launch(root, mine, code)


def stop(root: Path) -> bool:
    """End the embedded Ray of this root, or remove what a killed one left. Returns whether there was any."""
    root = root.resolve()
    with only_one(lock_path(root), "the start or stop of Ray", wait=START_S + _STOP_S):
        record = load(root)
        _clear(root, record)
        return record is not None


def release(root: Path, owner: psutil.Process) -> None:
    """This owner needs Ray no longer: end it, unless somebody else does."""
    root = root.resolve()
    with only_one(lock_path(root), "the start or stop of Ray", wait=START_S + _STOP_S):
        record = load(root)
        if record is None or record.owners is None:
            return
        record = replace(
            record,
            owners=[other for other in record.owners if other.pid != owner.pid and alive(other)],
        )
        if record.owners:
            record.save()
        else:
            _clear(root, record)


def describe(root: Path) -> dict[str, Any] | None:
    """What `gristmill status` shows of the embedded Ray. None: there is none.

    `state` is "running", "starting", or "gone" when it was killed and its remains wait for the next command.
    """
    record = load(root.resolve())
    if record is None:
        return None
    state = "running" if record.usable else "starting" if record.starting else "gone"
    owners = (
        None if record.owners is None else [owner.pid for owner in record.owners if alive(owner)]
    )
    return {
        "state": state,
        "address": record.address,
        "pid": record.node.pid,
        "owners": owners,
        "temp": record.temp,
        "started_by": record.started_by,
        "since": record.since,
    }


def owner_of_stage() -> psutil.Process:
    """For whom a stage starts Ray: the `gristmill run` above it, else the dvc above it, so that one Ray serves all stages; else itself."""
    me = psutil.Process()
    parents = me.parents()
    given = os.environ.get("GRISTMILL_OWNER_PID", "")
    for parent in parents:
        if str(parent.pid) == given:
            return parent
    for parent in parents:
        with suppress(psutil.Error):
            if any(Path(part).name == "dvc" for part in parent.cmdline()[:3]):
                return parent
    return me


def store_options(shm: Path = Path("/dev/shm")) -> list[str]:  # noqa: S108
    """`ray start` options for an object store that leaves room in shared memory; `{temp}` stands for Ray's temporary folder.

    Raises:
        EnvironmentFault: shared memory is full.
    """
    if not shm.is_dir():
        return [f"--object-store-memory={_STORE // 4}"]
    room = shutil.disk_usage(shm)
    if room.total < _SMALL_SHM:
        return [f"--object-store-memory={_STORE // 4}", "--plasma-directory={temp}"]
    if room.free // 5 < _LEAST_STORE:
        what = f"is nearly full: {room.free / 2**20:.0f} of {room.total / 2**20:.0f} MiB free, Ray needs {5 * _LEAST_STORE / 2**20:.0f}"
        raise EnvironmentFault(
            what,
            where=str(shm),
            remedy=f"see what fills it (ls -lS {shm}), delete what no process uses; in a container start it with a larger --shm-size",
        )
    return [f"--object-store-memory={min(_STORE, room.free // 5)}"]


def _launch(root: Path, owner: Identity | None, code: Path) -> Record:
    """Start a supervisor with its Ray: `root` holds the record, `code` is the project whose modules it imports."""
    order = {
        "root": str(root),
        "owners": [owner] if owner else None,
        "started_by": this_command(),
        "store": store_options(),
    }
    log = record_path(root).with_suffix(".log")
    check_writable(log.parent)
    with log.open("wb") as output:
        supervisor = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "components.orchestration.cluster.supervisor",
                json.dumps(order),
            ],
            cwd=code,
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join(
                    [str(code), *filter(None, [os.environ.get("PYTHONPATH")])]
                ),
            },
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + START_S
        while supervisor.poll() is None and time.monotonic() < deadline:
            record = load(root)
            if record and record.supervisor.pid == supervisor.pid and record.usable:
                return record
            time.sleep(0.1)
        lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        how = "ended" if supervisor.poll() is not None else f"was not ready after {START_S:.0f} s"
        last = "".join(f"\n    {line[:200]}" for line in lines[-8:])
        raise EnvironmentFault(
            f"Ray {how} while starting. The last lines of its log:{last}",
            where=str(log),
            remedy="gristmill doctor looks for the cause; then run the same command again",
        )
    except BaseException:
        supervisor.terminate()
        supervisor.wait(_STOP_S)
        raise


def _clear(root: Path, record: Record | None) -> None:
    """Have the supervisor end its Ray; do it ourselves where the supervisor is gone. The caller holds the lock."""
    if record is None:
        return
    if alive(record.supervisor):
        send(record.supervisor, signal.SIGTERM)
        wait_until(lambda: not alive(record.supervisor), _STOP_S)
    end(record)
    record_path(root).unlink(missing_ok=True)
