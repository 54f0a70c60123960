"""Download a file over HTTP, go on where an earlier download was cut off, and check its SHA-256."""

from __future__ import annotations

import fcntl
import ipaddress
import re
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from components.core.errors import EnvironmentFault, GristmillError, InputError
from components.core.files import sha256

if TYPE_CHECKING:
    import httpx

# Bytes of the file so far, and its size; 0 where the server does not say it.
Progress = Callable[[int, int], None]

# Bytes between two reports of the progress.
_REPORTED = 1 << 24
_MOST_REDIRECTS = 5
# Attempts in a row that bring no byte.
_ATTEMPTS = 4
_PAUSE_S = 0.5
_BUSY = frozenset({408, 425, 429, 500, 502, 503, 504})
_RANGE = re.compile(r"bytes (\d{1,19})-\d+/(?:\d+|\*)")


@dataclass(frozen=True)
class Download:
    """A file to download.

    Args:
        url: of the file, which may hold a secret.
        shown: the URL for messages.
        where: key of the params, for messages.
        sha256: of the whole file.
        max_bytes: largest size that is accepted.
        timeout_s: seconds to wait for an answer or for more bytes.
        download_s: seconds after which the download is given up.
    """

    url: str
    shown: str
    where: str
    sha256: str
    max_bytes: int
    timeout_s: float
    download_s: float

    def refusal(self, what: str, remedy: str) -> InputError:
        """Return the error for a file that cannot be used."""
        return InputError(f"{self.shown} {what}", where=self.where, remedy=remedy)


class _Interrupted(Exception):
    """The server does not answer now, or the answer ended early."""


def download(file: Download, target: Path, progress: Progress) -> None:
    """Download a file, unless it is there.

    What an interrupted download has received stays beside the target, and the next one continues.

    Args:
        file: what to download.
        target: path of the file; its folder is made.
        progress: called now and then.

    Raises:
        InputError: the server does not have the file, or its content is not the expected one.
        EnvironmentFault: the server cannot be reached, is too slow, or the disk is full.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.with_name(f"{target.name}.lock").open("w") as lock:
            # Another pipeline may download the same file.
            fcntl.flock(lock, fcntl.LOCK_EX)
            if target.is_file() and sha256(target) == file.sha256:
                return
            part = _Part(target.with_name(f"{target.name}.part"))
            resumed = part.size > 0
            digest = _received(file, part, progress)
            if digest != file.sha256 and resumed:
                # The bytes of an earlier run may be those of another file.
                part.discard()
                digest = _received(file, part, progress)
            if digest != file.sha256:
                raise _wrong_content(file, part, digest)
            part.path.replace(target)
            part.discard()
    except OSError as error:
        raise EnvironmentFault(
            f"cannot be written: {error.strerror}",
            where=str(target.parent),
            remedy="free disk space, then run the same command again",
        ) from error


class _Part:
    """What was received of a file, and what tells whether the server still has the same one."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._version = path.with_name(f"{path.name}.version")

    @property
    def size(self) -> int:
        """Return the number of bytes that were received."""
        return self.path.stat().st_size if self.path.is_file() else 0

    @property
    def headers(self) -> dict[str, str]:
        """Return the headers that ask for the rest of the file, or for all of it.

        Without `If-Range`, the SHA-256 tells whether the parts belong together.
        """
        headers = {"Accept-Encoding": "identity", "User-Agent": "gristmill"}
        if self.size:
            headers["Range"] = f"bytes={self.size}-"
            if self._version.is_file():
                headers["If-Range"] = self._version.read_text(encoding="ascii")
        return headers

    def restart(self, headers: Mapping[str, str]) -> None:
        """Discard the bytes, and keep the validator of the file that comes now.

        Args:
            headers: of the answer. RFC 9110 allows only strong validators in `If-Range`.
        """
        self.discard()
        etag = headers.get("etag", "")
        version = headers.get("last-modified", "") if etag.startswith("W/") or not etag else etag
        if version and version.isascii():
            self._version.write_text(version, encoding="ascii")

    def discard(self) -> None:
        """Delete the bytes and the validator."""
        self.path.unlink(missing_ok=True)
        self._version.unlink(missing_ok=True)


def _received(file: Download, part: _Part, progress: Progress) -> str:
    """Return the SHA-256 of the file that a server has sent.

    Args:
        file: what to download.
        part: what was received before.
        progress: called now and then.

    Raises:
        GristmillError: see `download`.
    """
    import httpx

    deadline = time.monotonic() + file.download_s
    failures = 0
    with _client(file) as client:
        while True:
            size = part.size
            try:
                _receive_rest(client, file, part, deadline, progress)
                return sha256(part.path)
            except (httpx.TransportError, _Interrupted) as error:
                failures = failures + 1 if part.size == size else 1
                if failures == _ATTEMPTS:
                    raise _unreachable(file, part.size, error) from None
            time.sleep(_PAUSE_S * failures)


def _client(file: Download) -> httpx.Client:
    """Return a client of HTTP, with the proxies and certificates of the environment.

    Raises:
        EnvironmentFault: they cannot be used.
    """
    import httpx

    try:
        return httpx.Client(timeout=file.timeout_s)
    except (ImportError, ValueError, OSError, httpx.InvalidURL) as error:
        # The message may hold the password of a proxy.
        raise EnvironmentFault(
            f"{file.shown} cannot be fetched with the proxy or the certificates of the environment "
            f"({type(error).__name__})",
            where="HTTP_PROXY, HTTPS_PROXY, ALL_PROXY, SSL_CERT_FILE, SSL_CERT_DIR",
            remedy="name a proxy of HTTP and certificates that exist, or unset the variables",
        ) from None


def _receive_rest(
    client: httpx.Client, file: Download, part: _Part, deadline: float, progress: Progress
) -> None:
    """Append what is missing to the part.

    Args:
        client: of HTTP.
        file: what to download.
        part: what was received before.
        deadline: on the monotonic clock.
        progress: called after each 16 MiB.

    Raises:
        _Interrupted: the server is busy, or sends another range.
        httpx.TransportError: the connection was cut.
        GristmillError: see `download`.
    """
    with _answer(client, file, part.headers) as response:
        _check_status(response, file, part)
        if response.status_code != 206:
            part.restart(response.headers)
        length = response.headers.get("content-length", "")
        total = part.size + int(length) if length.isdecimal() else 0
        if total > file.max_bytes:
            part.discard()
            raise _too_large(file)
        with part.path.open("ab") as stream:
            received = stream.tell()
            reported = received
            for chunk in response.iter_raw():
                stream.write(chunk)
                received += len(chunk)
                if received > file.max_bytes:
                    part.discard()
                    raise _too_large(file)
                if time.monotonic() > deadline:
                    raise _too_slow(file, received)
                if received - reported >= _REPORTED:
                    progress(received, total)
                    reported = received


@contextmanager
def _answer(
    client: httpx.Client, file: Download, headers: Mapping[str, str]
) -> Iterator[httpx.Response]:
    """Yield the answer to a request, after its redirects.

    Args:
        client: of HTTP.
        file: what to download.
        headers: of the request.

    Raises:
        InputError: the URL cannot be used, or it is redirected where it must not lead.
    """
    import httpx

    url: httpx.URL | None = None
    address = file.url
    for _ in range(_MOST_REDIRECTS + 1):
        try:
            url = _checked_url(file, url, address)
            request = client.build_request("GET", url, headers=dict(headers))
            response = client.send(request, stream=True)
        except (httpx.InvalidURL, UnicodeError):
            # The message may hold a secret. A host that is no domain name is a UnicodeError.
            raise _no_address(file) from None
        try:
            if not response.has_redirect_location:
                yield response
                return
        finally:
            response.close()
        address = response.headers["location"]
    raise file.refusal(
        f"is redirected more than {_MOST_REDIRECTS} times",
        "set it to the address of the file itself",
    )


def _checked_url(file: Download, source: httpx.URL | None, address: str) -> httpx.URL:
    """Return the URL of an address, after a check of where it leads.

    Args:
        file: what to download.
        source: URL that is redirected to the address; None: the params give it.
        address: URL, or the part of it that differs from the source.

    Raises:
        InputError: it is no web address, or a redirect must not lead there.
        httpx.InvalidURL: it is no URL.
        UnicodeError: its host is no domain name.
    """
    import httpx

    if source is None:
        url = httpx.URL(address)
    else:
        url = source.join(address)
        _check_redirect(file, source, url)
    if url.scheme not in ("http", "https") or not url.host:
        raise _no_address(file)
    return url


def _check_redirect(file: Download, source: httpx.URL, target: httpx.URL) -> None:
    """Check where a server sends a request.

    A name may get another address after this check. The SHA-256 then refuses what is sent.

    Args:
        file: what to download.
        source: URL that was asked.
        target: URL that it is redirected to.

    Raises:
        InputError: it is no web address, an unencrypted one after an encrypted one, or a private
            one after a public one.
    """
    remedy = "set it to the address of the file itself, if you trust that address"
    if target.scheme not in ("http", "https"):
        raise file.refusal(f"is redirected to an address of {target.scheme!r}", remedy)
    if source.scheme == "https" and target.scheme == "http":
        raise file.refusal(f"is redirected from https to http: {target.host!r}", remedy)
    if _is_private(target.host) and not _is_private(source.host):
        raise file.refusal(f"is redirected to a private address: {target.host!r}", remedy)


def _is_private(host: str) -> bool:
    """Return whether a host has an address that is not public; False where it has none."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        # The request will fail, or a proxy knows the name.
        return False
    for *_, address in found:
        # A link-local address has its interface behind a percent sign.
        parsed = ipaddress.ip_address(str(address[0]).partition("%")[0])
        mapped = getattr(parsed, "ipv4_mapped", None) or parsed
        if not mapped.is_global or mapped.is_multicast:
            return True
    return False


def _check_status(response: httpx.Response, file: Download, part: _Part) -> None:
    """Check that an answer brings the file, or the part that was asked for.

    Args:
        response: of the server.
        file: what to download.
        part: what was received before.

    Raises:
        _Interrupted: another answer may come later.
        InputError: the server refuses.
    """
    status = response.status_code
    if status == 206:
        content_range = _RANGE.fullmatch(response.headers.get("content-range", ""))
        if content_range and int(content_range[1]) == part.size:
            return
    has_part = part.size > 0
    if status in (206, 416) and has_part:
        part.discard()
        raise _Interrupted(f"status {status} for another range")
    if status in _BUSY:
        raise _Interrupted(f"status {status}")
    if status != 200:
        raise file.refusal(
            f"is answered with status {status}",
            "open the address in a browser, and correct it or wait for the server",
        )


def _no_address(file: Download) -> InputError:
    """Return the error for a URL that cannot be asked."""
    return file.refusal(
        "is no address of http or https, or is redirected to none",
        "correct it, or the environment variables in it",
    )


def _wrong_content(file: Download, part: _Part, digest: str) -> InputError:
    """Return the error for a file with another SHA-256, whose bytes are deleted."""
    size = part.size
    with part.path.open("rb") as stream:
        head = stream.read(512).lstrip().lower()
    part.discard()
    kind = "a web page, " if head.startswith((b"<!doctype html", b"<html")) else ""
    return file.refusal(
        f"is another file: {kind}{size:,} bytes with SHA-256 {digest}, not {file.sha256}",
        f"ask who publishes it; if the file is right, set sha256 to {digest}",
    )


def _too_large(file: Download) -> InputError:
    """Return the error for a file beyond the limit."""
    return file.refusal(
        f"is larger than {file.max_bytes:,} bytes",
        "raise ingest.source.max_bytes, if the file is what you expect",
    )


def _too_slow(file: Download, received: int) -> EnvironmentFault:
    """Return the error for a download beyond its time."""
    return EnvironmentFault(
        f"{file.shown} has sent {received:,} bytes in {file.download_s:,.0f} s",
        where=file.where,
        remedy="run the same command again to go on, or raise ingest.source.download_s",
    )


def _unreachable(file: Download, received: int, error: Exception) -> GristmillError:
    """Return the error for a server that does not answer, or whose answers end early."""
    # Messages of httpx hold no URL, but that of a proxy may.
    reason = str(error) if isinstance(error, _Interrupted) else type(error).__name__
    return EnvironmentFault(
        f"{file.shown} cannot be fetched ({reason}); {received:,} bytes are there",
        where=file.where,
        remedy="check the network, then run the same command again to go on",
    )
