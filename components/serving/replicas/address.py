"""Where a service listens: on loopback unless an API key is set, and never the replicas behind HAProxy."""

from __future__ import annotations

import ipaddress
import os
import socket
from pathlib import Path

from components.core import escaping
from components.core.errors import EnvironmentFault
from components.serving.http.api_keys import KEY_VARIABLE

LISTEN_VARIABLE = "GRISTMILL_LISTEN"  # set on clusters with HAProxy: the file that tells it where to listen, while Serve and its replicas keep to loopback


def check_address(host: str, port: int, keyed: bool = False) -> None:
    """Say at once what `deploy` would say after Ray has started.

    Args:
        host: where to listen.
        port: likewise; 0: any.
        keyed: whether an API key is wanted.

    Raises:
        EnvironmentFault: port taken, or a public host without an API key.
    """
    check_key(host, keyed)
    claim(host, port)


def inner(host: str) -> str:
    """What Serve is told: with HAProxy before them, replicas stay on loopback whatever it listens on."""
    listen = os.environ.get(LISTEN_VARIABLE)
    if not listen:
        return host
    if _is_loopback(host):
        Path(listen).unlink(missing_ok=True)
        return host
    address = escaping.haproxy_address({"0.0.0.0": "*"}.get(host, host))  # noqa: S104
    Path(listen).write_text(address, encoding="utf-8")
    return "127.0.0.1"


def public(inner: str) -> str:
    """Where the service listens, from what Serve was told."""
    listen = os.environ.get(LISTEN_VARIABLE)
    text = Path(listen).read_text(encoding="utf-8") if listen and Path(listen).is_file() else inner
    return {"*": "0.0.0.0"}.get(text, text)  # noqa: S104


def check_key(host: str, keyed: bool) -> None:
    if not keyed and not _is_loopback(host):
        remedy = f"gristmill keys add NAME (or set {KEY_VARIABLE} to a long random value), or leave --host at 127.0.0.1"
        raise EnvironmentFault(
            f"{host} can be reached from other machines, and no API key is set",
            where="--host",
            remedy=remedy,
        )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def claim(host: str, port: int) -> int:
    """The port, or a free one for 0. It is let go again, so Serve can still lose it; then it says so itself."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            return int(probe.getsockname()[1])
        except OSError as error:
            raise EnvironmentFault(
                f"cannot listen on {host}:{port}: {error.strerror}",
                where="--port",
                remedy="choose another with --port N, or --port 0 for any free one",
            ) from None


def reachable(host: str) -> str:
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104


def url_of(host: str, port: int) -> str:
    name = reachable(host)
    return f"http://[{name}]:{port}" if ":" in name else f"http://{name}:{port}"
