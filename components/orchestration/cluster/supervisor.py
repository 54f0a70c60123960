"""Supervisor of one embedded Ray: a process that starts Ray, and ends it with its last owner.

`local_cluster.py` starts it; nobody calls it by hand. It has a session to itself, so that neither
Ctrl-C nor a kill of the caller's process group reaches it. It ends Ray on SIGTERM, when all owners
have ended, or when the record no longer names it. Where the supervisor itself is killed, the kernel
signals Ray, and the next command removes what is left.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from components.core.cpus import cpu_limits, thread_settings
from components.core.errors import EnvironmentFault
from components.core.files import remove_tree, to_json, write_atomic
from components.orchestration.cluster import haproxy
from components.orchestration.locks import only_one
from components.orchestration.processes import (
    Identity,
    alive,
    end_with_parent,
    family,
    identify,
    send,
    wait_until,
)

_RAY_START = "components.orchestration.cluster.ray_start"
_POLL_S = 0.25
_GRACE_S = 10.0
# Ray's workers end by themselves when their raylet has ended.
_ORPHAN_GRACE_S = 2.0
# On one CPU the two workers of the shipped pipelines take turns.
_LEAST_CPUS = 2
# Characters. Sockets of Ray and HAProxy lie below it, and their paths may have 107 characters.
_LONGEST_TEMP = 20
_END_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


@dataclass(frozen=True)
class Record:
    """The embedded Ray of a root, as `data/.state/cluster.json` records it.

    Secrets stay in the token file.
    """

    root: str
    # "" until Ray is up
    address: str
    supervisor: Identity
    # the `ray start` process, leader of the session in which all of Ray runs
    node: Identity
    # Ray ends when none of them is left; None: only `gristmill down` ends it
    owners: list[Identity] | None
    temp: str
    started_by: str
    # seconds since the epoch
    since: float

    @property
    def usable(self) -> bool:
        """Return whether a driver can connect to Ray."""
        return bool(self.address) and alive(self.supervisor) and alive(self.node)

    @property
    def starting(self) -> bool:
        """Return whether the supervisor still waits for Ray's address."""
        return not self.address and alive(self.supervisor)

    @property
    def is_needed(self) -> bool:
        """Return whether an owner is left, or Ray runs without owners."""
        return self.owners is None or any(alive(owner) for owner in self.owners)

    @property
    def token(self) -> Path:
        """Return the path of the file with the secret that Ray asks of its drivers."""
        return Path(self.temp) / "token"

    def save(self) -> None:
        """Write the record to its file."""
        write_atomic(record_path(Path(self.root)), to_json(asdict(self)))

    def remove(self) -> None:
        """Delete the record's file, unless it names another supervisor by now."""
        current = load(Path(self.root))
        if current and current.supervisor == self.supervisor:
            record_path(Path(self.root)).unlink(missing_ok=True)


def record_path(root: Path) -> Path:
    """Return the path of the record of a root."""
    return root / "data" / ".state" / "cluster.json"


def lock_path(root: Path) -> Path:
    """Return the path of the lock that a process holds while it changes the record."""
    return record_path(root).with_suffix(".lock")


def load(root: Path) -> Record | None:
    """Return the record of a root; None if there is none, or if it is a copy of another root's."""
    try:
        fields: dict[str, Any] = json.loads(record_path(root).read_text(encoding="utf-8"))
        for name in ("supervisor", "node"):
            fields[name] = Identity(*fields[name])
        fields["owners"] = _owners(fields["owners"])
        record = Record(**fields)
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return record if record.root == str(root) else None


def _owners(rows: Any) -> Any:
    """Return the owners of a record or an order, from their lists of fields in JSON."""
    return rows and [Identity(*row) for row in rows]


def environment(token: Path) -> dict[str, str]:
    """Return the environment variables that Ray and its drivers must have in common.

    Args:
        token: the file with the secret of the cluster.
    """
    callback = "components.serving.replicas.ray_middlewares.middlewares"
    return {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token),
        # Ray prefers this to the file, and it may be the token of another cluster.
        "RAY_AUTH_TOKEN": "",
        # Otherwise Ray takes 127.0.0.1 for the machine's outer address, and listens on all
        # interfaces.
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": callback,
        **QUIET,
        **haproxy.switches(token.parent),
    }


QUIET = {
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_TRAIN_ENABLE_PRINT_PATCH": "0",
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
}


def without_client_server(params: Any, head: bool) -> None:  # noqa: ARG001
    """Switch off the server of Ray Client, as the RAY_START_HOOK of `ray start`.

    Nothing here uses Ray Client. It would take 90 MB, and a port that must be free.
    """
    params.ray_client_server_port = None


def launch(temp: Path, store: Sequence[str]) -> subprocess.Popen[bytes]:
    """Start Ray's head in a session to itself, logging to this process's output.

    Args:
        temp: folder of the cluster.
        store: options of `ray start` for the object store.
    """
    token = temp / "token"
    token.touch(mode=0o600)
    token.write_text(secrets.token_hex(32))
    limits = cpu_limits()
    inherited = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    inherited |= thread_settings(limits, inherited)
    settings = environment(token)
    settings |= {
        "RAY_START_HOOK": "components.orchestration.cluster.supervisor.without_client_server",
        # Otherwise Ray waits 30 s for tasks whose driver has ended.
        "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0",
        **haproxy.fallback_port(),
    }
    options = [
        "--node-ip-address=127.0.0.1",
        "--port=0",
        "--dashboard-agent-listen-port=0",
        "--include-dashboard=false",
        "--include-log-monitor=false",
        "--no-monitor",
        f"--temp-dir={temp / 'r'}",
        f"--num-cpus={max(_LEAST_CPUS, limits.usable)}",
        "--disable-usage-stats",
        "--log-color=false",
        *store,
    ]
    return subprocess.Popen(
        [sys.executable, "-m", _RAY_START, "start", "--head", "--block", *options],
        # Ray starts `python -m …` in this folder. In another one, a file such as types.py would
        # shadow the module of the standard library.
        cwd=temp,
        env=inherited | settings,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=end_with_parent,
    )


def end(record: Record) -> None:
    """End Ray and all processes that it started, and remove its temporary folder.

    Args:
        record: of the Ray to end.
    """
    processes = family(record.node)
    send(record.node, signal.SIGTERM)
    wait_until(lambda: not alive(record.node), _GRACE_S)
    wait_until(lambda: not family(record.node), _ORPHAN_GRACE_S)
    processes |= family(record.node)
    for process in processes:
        send(process, signal.SIGKILL)
    wait_until(lambda: not any(alive(process) for process in processes), _GRACE_S)
    temp = Path(record.temp)
    if temp.name.startswith("gm-"):
        remove_tree(temp, within=temp.parent)


def _temp_folder() -> Path:
    base = tempfile.gettempdir()
    if len(base) > _LONGEST_TEMP:
        base = "/tmp"  # noqa: S108
    return Path(tempfile.mkdtemp(prefix="gm-", dir=base))


def _watch(record: Record, node: subprocess.Popen[bytes]) -> None:
    """Write Ray's address into the record, and return when Ray has ended or is to end."""
    address_file = Path(record.temp) / "r" / "ray_current_cluster"
    while node.poll() is None:
        current = load(Path(record.root))
        if current is None or current.supervisor != record.supervisor:
            return
        if not current.address and address_file.exists():
            replace(current, address=address_file.read_text().strip()).save()
        if not current.is_needed and _remove_unneeded(current):
            return
        time.sleep(_POLL_S)


def _remove_unneeded(record: Record) -> bool:
    """Remove the record, unless an owner joins at this moment; return whether it is removed."""
    root = Path(record.root)
    try:
        with only_one(lock_path(root), "the end of Ray"):
            current = load(root)
            if current and current.is_needed:
                return False
            record.remove()
            return True
    except EnvironmentFault:
        return False


def main() -> None:
    """Run Ray for the owners that the only argument, a JSON object, names."""
    order = json.loads(sys.argv[1])
    for number in _END_SIGNALS:
        signal.signal(number, lambda *_: sys.exit(0))
    supervisor = identify(os.getpid())
    assert supervisor is not None
    temp = _temp_folder()
    record = None
    try:
        node = launch(temp, [part.format(temp=temp) for part in order["store"]])
        record = Record(
            root=order["root"],
            address="",
            supervisor=supervisor,
            node=identify(node.pid) or Identity(node.pid, supervisor.boot, 0),
            owners=_owners(order["owners"]),
            temp=str(temp),
            started_by=order["started_by"],
            since=time.time(),
        )
        record.save()
        _watch(record, node)
    finally:
        # Ray is ending already: a second signal must not cut that off.
        for number in _END_SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        if record:
            end(record)
            record.remove()
        remove_tree(temp, within=temp.parent)


if __name__ == "__main__":
    main()
