"""The address where a service listens.

It listens on loopback unless an API key is set. Replicas behind HAProxy always listen on loopback.
"""

from __future__ import annotations

import ipaddress
import os
import socket
from pathlib import Path

from components.core import escaping
from components.core.errors import EnvironmentFault
from components.serving.http.keyring import KEY_VARIABLE

# Set on clusters with HAProxy. The file that it names tells HAProxy where to listen, while Serve
# and its replicas listen on loopback.
LISTEN_VARIABLE = "GRISTMILL_LISTEN"


def check_address(host: str, port: int, keyed: bool = False) -> None:
    """Check at once what `deploy` would check after Ray has started.

    Args:
        host: where to listen.
        port: where to listen; 0: any free one.
        keyed: whether an API key is wanted.

    Raises:
        EnvironmentFault: port taken, or a public host without an API key.
    """
    check_key(host, keyed)
    claim(host, port)


def inner(host: str) -> str:
    """Return the host for Serve.

    With HAProxy before them, replicas stay on loopback whatever the host is.

    Args:
        host: where the service is to listen.
    """
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
    """Return the host where the service listens.

    Args:
        inner: the host of Serve.
    """
    listen = os.environ.get(LISTEN_VARIABLE)
    host = inner
    if listen and Path(listen).is_file():
        host = Path(listen).read_text(encoding="utf-8")
    return {"*": "0.0.0.0"}.get(host, host)  # noqa: S104


def check_key(host: str, keyed: bool) -> None:
    """Check that a service that other machines can reach has an API key.

    Args:
        host: where to listen.
        keyed: whether an API key is wanted.

    Raises:
        EnvironmentFault: a public host without an API key.
    """
    if keyed or _is_loopback(host):
        return
    remedy = (
        f"gristmill keys add NAME (or set {KEY_VARIABLE} to a long random value), "
        "or leave --host at 127.0.0.1"
    )
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
    """Return a port that is free; for 0 any free one.

    The port is released again, so another process can take it before Serve does.

    Raises:
        EnvironmentFault: the port is taken.
    """
    with listen(host, port) as probe:
        return int(probe.getsockname()[1])


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that is bound to an address.

    Args:
        host: where to listen.
        port: where to listen; 0: any free one.

    Raises:
        EnvironmentFault: the port is taken.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise cannot_listen(host, port, str(error.strerror)) from None
    return listener


def cannot_listen(host: str, port: int, reason: str) -> EnvironmentFault:
    """Return the fault of an address that cannot be bound."""
    return EnvironmentFault(
        f"cannot listen on {host}:{port}: {reason}",
        where="--port",
        remedy="choose another with --port N, or --port 0 for any free one",
    )


def reachable(host: str) -> str:
    """Return a host to connect to, for one to listen on."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104


def url_of(host: str, port: int) -> str:
    """Return the URL of a service that listens on a host and port."""
    name = reachable(host)
    if ":" in name:
        name = f"[{name}]"
    return f"http://{name}:{port}"
