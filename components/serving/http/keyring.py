"""API keys: identified by name, stored as salted hashes, compared in constant time."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import secrets
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from components.core import escaping
from components.core.errors import EnvironmentFault, GristmillError, InputError
from components.core.files import to_json

KEY_VARIABLE = "GRISTMILL_API_KEY"
FILE_VARIABLE = "GRISTMILL_KEYS_FILE"
# the name of the key in KEY_VARIABLE
FROM_ENVIRONMENT = "environment"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,39}")
_LOG = logging.getLogger("ray.serve")
# how soon a service knows that a key was added or removed
_LOOK_S = 1.0


@dataclass(frozen=True)
class Key:
    """What is stored of a key.

    Keys have 256 random bits, so one SHA-256 is as hard to reverse as many.
    """

    name: str
    salt: str
    sha256: str
    created: str

    @classmethod
    def of(cls, name: str, secret: str) -> Key:
        """Return the hash of a key, with a new salt.

        Args:
            name: of the key.
            secret: the key itself.
        """
        salt = secrets.token_hex(16)
        return cls(
            name,
            salt,
            _digest(salt, secret),
            datetime.now(UTC).date().isoformat(),
        )


class Keyring:
    """The keys that open a service. None of them can be read from it.

    Args:
        keys: valid from the start.
        path: a file with more keys, which is read again when it changes. A replica on a node
            without the file uses `keys`.
    """

    def __init__(self, keys: Sequence[Key] = (), path: Path | None = None) -> None:
        self._fixed = tuple(keys)
        self._path = path
        self._from_file: tuple[Key, ...] = ()
        self._stamp = (0, 0)
        self._checked_at = float("-inf")
        self._wanted = bool(keys)
        self._reload(strict=True)

    def __setstate__(self, state: dict[str, Any]) -> None:
        # the clock of another machine means nothing here
        self.__dict__.update(state, _checked_at=float("-inf"))

    @classmethod
    def from_environment(cls, path: Path | None = None) -> Keyring:
        """Return the key in GRISTMILL_API_KEY and those of a keys file.

        Args:
            path: of the keys file, if GRISTMILL_KEYS_FILE names no other.
        """
        secret = os.environ.get(KEY_VARIABLE)
        keys = [Key.of(FROM_ENVIRONMENT, secret)] if secret else []
        named = os.environ.get(FILE_VARIABLE)
        if named:
            path = Path(named).absolute()
        return cls(keys, path)

    @property
    def required(self) -> bool:
        """Return whether a key is needed.

        Once there was a key, the service never becomes open again because keys are lost.
        """
        self._reload()
        return self._wanted

    def owner(self, secret: str) -> str | None:
        """Return the name of a key, or None. All keys are compared, whichever fits."""
        self._reload()
        owner = None
        for key in (*self._fixed, *self._from_file):
            if secrets.compare_digest(_digest(key.salt, secret), key.sha256):
                owner = key.name
        return owner

    def _reload(self, strict: bool = False) -> None:
        """Read the keys file if it has changed.

        Args:
            strict: raise for a file that cannot be used, instead of a warning.
        """
        if self._path is None or time.monotonic() - self._checked_at < _LOOK_S:
            return
        self._checked_at = time.monotonic()
        try:
            status = self._path.stat()
        except OSError:
            # not on this node, or gone: the keys stay as they are, nothing opens
            return
        stamp = (status.st_mtime_ns, status.st_ino)
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self._from_file = tuple(read(self._path))
        except GristmillError as error:
            if strict:
                raise
            # a half-finished edit must not turn every client away
            _LOG.warning(
                "the keys file is passed over, the keys known before go on: %s",
                escaping.log_line(str(error)),
            )
        self._wanted = self._wanted or bool(self._from_file)


def read(path: Path) -> list[Key]:
    """Return the keys of a file, none if it is not there.

    Raises:
        EnvironmentFault: others may write to it.
        InputError: it is no keys file.
    """
    if not path.is_file():
        return []
    if path.stat().st_mode & 0o022:
        raise EnvironmentFault(
            "others may write to it, and so let themselves in",
            where=str(path),
            remedy=f"chmod 600 {path}",
        )
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))["keys"]
        return [_parse_key(row) for row in rows]
    except (ValueError, KeyError, TypeError, AttributeError):
        raise InputError(
            "is no keys file", where=str(path), remedy="move it away, then: gristmill keys add NAME"
        ) from None


def _parse_key(row: Mapping[str, Any]) -> Key:
    return Key(**{name: str(value) for name, value in row.items()})


def add(path: Path, name: str) -> str:
    """Create a key. It is returned once and stored nowhere.

    Args:
        path: of the keys file.
        name: of the key.

    Raises:
        InputError: a name that is taken, or no name.
    """
    if not _NAME.fullmatch(name) or name == FROM_ENVIRONMENT:
        raise InputError(
            f"{name!r} cannot name a key",
            where="NAME",
            remedy="take up to 40 letters, digits, '.', '_' or '-'",
        )
    keys = read(path)
    if name in {key.name for key in keys}:
        raise InputError(
            f"there is a key {name!r} already",
            where=str(path),
            remedy=f"gristmill keys remove {name}, or take another name",
        )
    secret = "gm_" + secrets.token_urlsafe(32)
    _write(path, [*keys, Key.of(name, secret)])
    return secret


def remove(path: Path, name: str) -> None:
    """Remove a key.

    Args:
        path: of the keys file.
        name: of the key.

    Raises:
        InputError: there is none of that name.
    """
    keys = read(path)
    if name not in {key.name for key in keys}:
        raise InputError(f"there is no key {name!r}", where=str(path), remedy="gristmill keys list")
    _write(path, [key for key in keys if key.name != name])


def _write(path: Path, keys: Sequence[Key]) -> None:
    """Write a file as a whole or not at all, readable only by its owner from the first byte on."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # a temporary file has mode 600
        with tempfile.NamedTemporaryFile(
            "w", dir=path.parent, prefix=".keys", encoding="utf-8", delete=False
        ) as stream:
            stream.write(to_json({"keys": [asdict(key) for key in keys]}))
            stream.flush()
            os.fsync(stream.fileno())
        Path(stream.name).replace(path)
    except OSError as error:
        raise EnvironmentFault(
            f"cannot be written: {error.strerror}",
            where=str(path),
            remedy="mend the folder, then run the same command again",
        ) from None


def _digest(salt: str, secret: str) -> str:
    return hashlib.sha256(f"{salt}{secret}".encode("utf-8", "surrogateescape")).hexdigest()
