"""API keys: known by name, kept as salted hashes, compared in constant time."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import secrets
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from components.core import escaping
from components.core.errors import EnvironmentFault, GristmillError, InputError
from components.core.files import to_json

KEY_VARIABLE, FILE_VARIABLE = "GRISTMILL_API_KEY", "GRISTMILL_KEYS_FILE"
FROM_ENVIRONMENT = "environment"  # the name of the key in KEY_VARIABLE
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,39}")
_LOG = logging.getLogger("ray.serve")
_LOOK_S = 1.0  # how soon a service knows that a key was added or removed


@dataclass(frozen=True)
class Key:
    """What is kept of a key. Keys have 256 random bits, so one SHA-256 is as hard to go back as many."""

    name: str
    salt: str
    sha256: str
    created: str

    @classmethod
    def of(cls, name: str, secret: str) -> Key:
        """The hash of a key, with a salt of its own."""
        salt = secrets.token_hex(16)
        return cls(name, salt, _digest(salt, secret), datetime.now(UTC).date().isoformat())


class Keyring:
    """The keys that open a service, none of which can be read from it.

    Args:
        keys: known at the start.
        path: a file that adds to them and is looked at again when it changes; a replica on a node without it goes by `keys`.
    """

    def __init__(self, keys: Sequence[Key] = (), path: Path | None = None) -> None:
        self._fixed, self._path = tuple(keys), path
        self._filed: tuple[Key, ...] = ()
        self._stamp, self._looked = (0, 0), float("-inf")
        self._wanted = bool(keys)
        self._look(strict=True)

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(
            state, _looked=float("-inf")
        )  # another machine's clock says nothing here

    @classmethod
    def from_environment(cls, path: Path | None = None) -> Keyring:
        """The key in GRISTMILL_API_KEY and those of a keys file (GRISTMILL_KEYS_FILE goes before `path`)."""
        secret, told = os.environ.get(KEY_VARIABLE), os.environ.get(FILE_VARIABLE)
        return cls(
            [Key.of(FROM_ENVIRONMENT, secret)] if secret else [],
            Path(told).absolute() if told else path,
        )

    @property
    def wanted(self) -> bool:
        """Whether a key is needed. Once there was one, the service never opens again by losing it."""
        self._look()
        return self._wanted

    def owner(self, secret: str) -> str | None:
        """The name of the key, or None. All keys are compared, whichever fits."""
        self._look()
        found = None
        for key in (*self._fixed, *self._filed):
            if secrets.compare_digest(_digest(key.salt, secret), key.sha256):
                found = key.name
        return found

    def _look(self, strict: bool = False) -> None:
        if self._path is None or time.monotonic() - self._looked < _LOOK_S:
            return
        self._looked = time.monotonic()
        try:
            facts = self._path.stat()
        except OSError:  # not on this node, or gone: what was known stays, nothing opens
            return
        if (stamp := (facts.st_mtime_ns, facts.st_ino)) != self._stamp:
            self._stamp = stamp
            try:
                self._filed = tuple(read(self._path))
            except GristmillError as error:
                if strict:
                    raise
                _LOG.warning(
                    "the keys file is passed over, the keys known before go on: %s",
                    escaping.log_line(str(error)),
                )  # half an edit must not turn every client away
            self._wanted = self._wanted or bool(self._filed)


def read(path: Path) -> list[Key]:
    """The keys of a file, none if it is not there.

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
        return [
            Key(**{name: str(value) for name, value in each.items()})
            for each in json.loads(path.read_text(encoding="utf-8"))["keys"]
        ]
    except (ValueError, KeyError, TypeError, AttributeError):
        raise InputError(
            "is no keys file", where=str(path), remedy="move it away, then: gristmill keys add NAME"
        ) from None


def add(path: Path, name: str) -> str:
    """Make a key. It is returned once and kept nowhere.

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
    """Forget a key.

    Raises:
        InputError: there is none of that name.
    """
    keys = read(path)
    if name not in {key.name for key in keys}:
        raise InputError(f"there is no key {name!r}", where=str(path), remedy="gristmill keys list")
    _write(path, [key for key in keys if key.name != name])


def _write(path: Path, keys: Sequence[Key]) -> None:
    """Whole or not at all, and for its owner only from the first byte on."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(
            "w", dir=path.parent, prefix=".keys", encoding="utf-8", delete=False
        ) as stream:  # made with mode 600
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
