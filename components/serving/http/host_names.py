"""Accepted Host and Origin headers: a web page must not reach a service on loopback.

A page of another site can send requests to 127.0.0.1 in two ways. It can let its own name resolve
to 127.0.0.1 (DNS rebinding): the Host header then holds the name of that site. Or it can send a
request across origins: the Origin header then differs from the Host header.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator

LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")
_ANY_NAME = "*"
_SUBDOMAINS = "*."
_AUTHORITY = re.compile(r"(?P<name>[a-z0-9._-]{1,253}|\[[0-9a-f:.]{2,45}\])(:(?P<port>\d{1,5}))?")
_NAME = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,251}[A-Za-z0-9_])?")
_DEFAULT_PORTS = {"http": "80", "https": "443"}
PARAM = "serve.allowed_hosts"


def _check_pattern(pattern: str) -> str:
    if pattern == _ANY_NAME or _is_address(pattern.strip("[]")):
        return pattern
    if _NAME.fullmatch(pattern.removeprefix(_SUBDOMAINS)):
        return pattern
    raise ValueError("a host name, an address, *.example.com or *, without scheme and port")


HostPattern = Annotated[str, AfterValidator(_check_pattern)]


class AllowedHosts:
    """The names for which a service answers: loopback names and those of `serve.allowed_hosts`.

    Args:
        patterns: names, addresses, `*.example.com`, or `*` for any name. An address that means
            all interfaces (0.0.0.0 or ::) stands for any address, which no page can choose as Host.
    """

    def __init__(self, patterns: Sequence[str] = ()) -> None:
        plain = [pattern.lower().strip("[]") for pattern in patterns]
        self._names = frozenset([*LOOPBACK_NAMES, *plain])
        self._endings = tuple(name[1:] for name in plain if name.startswith(_SUBDOMAINS))
        self._any_name = _ANY_NAME in plain
        self._any_address = any(_is_unspecified(name) for name in plain)

    def accept_host(self, host: str) -> bool:
        """Return whether a Host header, with or without a port, names this service."""
        authority = _AUTHORITY.fullmatch(host.lower())
        if authority is None:
            return False
        name = authority["name"].strip("[]")
        if self._any_name or name in self._names or name.endswith(self._endings):
            return True
        return self._any_address and _is_address(name)

    def accept_origin(self, origin: str, host: str) -> bool:
        """Return whether a page may ask: one of this service, or of a name that params list.

        A proxy may pass on another Host than the page's, so names of params are accepted whatever
        the Host. Addresses and loopback names are not: other programs serve pages there.
        """
        try:
            parts = urlsplit(origin.lower())
        except ValueError:
            return False
        authority = _AUTHORITY.fullmatch(parts.netloc)
        if parts.scheme not in _DEFAULT_PORTS or authority is None:
            return False
        port = _DEFAULT_PORTS[parts.scheme]
        if _with_port(parts.netloc, port) == _with_port(host.lower(), port):
            return True
        name = authority["name"].strip("[]")
        if name in LOOPBACK_NAMES or _is_address(name):
            return False
        return name in self._names or name.endswith(self._endings)


def _with_port(authority: str, default: str) -> str:
    """Return an authority with its port, the default one where it names none."""
    parts = _AUTHORITY.fullmatch(authority)
    if parts is None:
        return ""
    return f"{parts['name']}:{parts['port'] or default}"


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _is_unspecified(name: str) -> bool:
    return _is_address(name) and ipaddress.ip_address(name).is_unspecified
