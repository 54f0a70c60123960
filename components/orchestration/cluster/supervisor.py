"""The process that keeps one embedded Ray, and ends it with those it was started for. `cluster.py` starts it; nobody calls it by hand.

It lives in a session of its own, so that neither Ctrl-C nor a kill of the caller's process group reaches it. It ends Ray when it is told to (SIGTERM), when all
owners are gone, or when the record no longer names it; when it is itself killed, the kernel tells Ray, and the next command removes what is left.
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

_TICK_S = 0.25
_GRACE_S = 10.0
_ORPHAN_GRACE_S = 2.0  # Ray's workers end by themselves when their raylet has
# On one CPU the two workers of the shipped pipelines take turns.
_LEAST_CPUS = 2
_LONGEST_TEMP = (
    20  # sockets of Ray and HAProxy lie below it, and their paths may have 107 characters
)


@dataclass(frozen=True)
class Record:
    """`data/.state/cluster.json`: the embedded Ray of a root. Secrets stay in the token file."""

    root: str
    address: str  # "" until Ray is up
    supervisor: Identity
    node: Identity  # the `ray start` process, leader of the session in which all of Ray runs
    owners: (
        list[Identity] | None
    )  # Ray ends when none of them is left; None: only `gristmill down` ends it
    temp: str
    started_by: str
    since: float  # seconds since the epoch

    @property
    def usable(self) -> bool:
        """Whether one can connect to it."""
        return bool(self.address) and alive(self.supervisor) and alive(self.node)

    @property
    def starting(self) -> bool:
        """Whether one will soon be able to."""
        return not self.address and alive(self.supervisor)

    @property
    def wanted(self) -> bool:
        """Whether anybody is left that it runs for."""
        return self.owners is None or any(alive(owner) for owner in self.owners)

    @property
    def token(self) -> Path:
        """The file with the secret that connects to it."""
        return Path(self.temp) / "token"

    def save(self) -> None:
        """Write it."""
        write_atomic(record_path(Path(self.root)), to_json(asdict(self)))

    def remove(self) -> None:
        """Delete it, unless the root has another cluster by now."""
        found = load(Path(self.root))
        if found and found.supervisor == self.supervisor:
            record_path(Path(self.root)).unlink(missing_ok=True)


def record_path(root: Path) -> Path:
    """Where the record of a root lies."""
    return root / "data" / ".state" / "cluster.json"


def lock_path(root: Path) -> Path:
    """Whoever changes the record holds this."""
    return record_path(root).with_suffix(".lock")


def load(root: Path) -> Record | None:
    """The record of a root. None: there is none, or it came along with a copy of another root."""
    try:
        facts: dict[str, Any] = json.loads(record_path(root).read_text(encoding="utf-8"))
        facts |= {name: Identity(*facts[name]) for name in ("supervisor", "node")}
        facts["owners"] = facts["owners"] and [Identity(*owner) for owner in facts["owners"]]
        record = Record(**facts)
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return record if record.root == str(root) else None


def environment(token: Path) -> dict[str, str]:
    """What Ray and whoever connects to it must agree on."""
    return {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token),
        "RAY_AUTH_TOKEN": "",  # one for another cluster would go before the file
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # else 127.0.0.1 is taken for the machine's outer address and Ray listens on all interfaces
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": "components.serving.replicas.ray_middlewares.middlewares",
        **QUIET,
        **haproxy.switches(token.parent),
    }


QUIET = {
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_TRAIN_ENABLE_PRINT_PATCH": "0",
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
}


def without_client_server(params: Any, head: bool) -> None:  # noqa: ARG001
    """RAY_START_HOOK: nobody uses Ray Client here, and it would cost 90 MB and a port that must be free."""
    params.ray_client_server_port = None


def launch(temp: Path, store: Sequence[str]) -> subprocess.Popen[bytes]:
    """Start Ray's head in a session of its own, logging to this process's output."""
    token = temp / "token"
    token.touch(mode=0o600)
    token.write_text(secrets.token_hex(32))
    limits = cpu_limits()
    inherited = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    inherited |= thread_settings(limits, inherited)
    settings = (
        environment(token)
        | {
            "RAY_START_HOOK": "components.orchestration.cluster.supervisor.without_client_server",
            "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0",  # else it waits 30 s for tasks whose driver has gone
            **haproxy.fallback_port(),
        }
    )
    options = [
        "--node-ip-address=127.0.0.1",
        "--port=0",
        "--dashboard-agent-listen-port=0",
        "--include-dashboard=false",
        "--include-log-monitor=false",
        "--no-monitor",
    ]
    options += [
        f"--temp-dir={temp / 'r'}",
        f"--num-cpus={max(_LEAST_CPUS, limits.usable)}",
        "--disable-usage-stats",
        "--log-color=false",
        *store,
    ]
    return subprocess.Popen(
        [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", *options],
        cwd=temp,  # Ray starts `python -m …` in its folder: a file types.py there would shadow the library's
        env=inherited | settings,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=end_with_parent,
    )


def end(record: Record) -> None:
    """End Ray, and whatever it started, and remove its temporary folder."""
    doomed = family(record.node)
    send(record.node, signal.SIGTERM)
    wait_until(lambda: not alive(record.node), _GRACE_S)
    wait_until(lambda: not family(record.node), _ORPHAN_GRACE_S)
    doomed |= family(record.node)
    for process in doomed:
        send(process, signal.SIGKILL)
    wait_until(lambda: not any(alive(process) for process in doomed), _GRACE_S)
    if Path(record.temp).name.startswith("gm-"):
        remove_tree(Path(record.temp), within=Path(record.temp).parent)


def _temp_folder() -> Path:
    base = tempfile.gettempdir()
    return Path(tempfile.mkdtemp(prefix="gm-", dir=base if len(base) <= _LONGEST_TEMP else "/tmp"))  # noqa: S108


def _watch(record: Record, node: subprocess.Popen[bytes]) -> None:
    """Publish the address once there is one; return when Ray has ended, or should."""
    address_file = Path(record.temp) / "r" / "ray_current_cluster"
    while node.poll() is None:
        found = load(Path(record.root))
        if found is None or found.supervisor != record.supervisor:
            return
        if not found.address and address_file.exists():
            replace(found, address=address_file.read_text().strip()).save()
        if not found.wanted and _dismissed(found):
            return
        time.sleep(_TICK_S)


def _dismissed(record: Record) -> bool:
    """Take the record away, unless an owner joins at this very moment."""
    root = Path(record.root)
    try:
        with only_one(lock_path(root), "the end of Ray"):
            found = load(root)
            if found and found.wanted:
                return False
            record.remove()
            return True
    except EnvironmentFault:
        return False


def main() -> None:
    """Keep Ray for the owners named in the JSON that is the only argument."""
    order = json.loads(sys.argv[1])
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(0))
    me = identify(os.getpid())
    assert me is not None
    temp = _temp_folder()
    record = None
    try:
        node = launch(temp, [part.format(temp=temp) for part in order["store"]])
        owners = order["owners"] and [Identity(*owner) for owner in order["owners"]]
        record = Record(
            order["root"],
            "",
            me,
            identify(node.pid) or Identity(node.pid, me.boot, 0),
            owners,
            str(temp),
            order["started_by"],
            time.time(),
        )
        record.save()
        _watch(record, node)
    finally:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)  # once is enough: Ray is going down
        if record:
            end(record)
            record.remove()
        remove_tree(temp, within=temp.parent)


if __name__ == "__main__":
    main()
