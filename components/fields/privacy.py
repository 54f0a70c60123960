"""Treat the personal data of texts: report or replace them, or drop their rows."""

from __future__ import annotations

import hashlib
import hmac
import os
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from components.core.errors import EnvironmentFault
from components.fields.personal_data import PersonalData, find, placeholder, replace

Mode = Literal["ignore", "report", "mask", "hash", "drop"]
KEY_VARIABLE = "GRISTMILL_PRIVACY_KEY"
_SHORTEST_KEY = 32
_FINGERPRINT_DIGITS = 16
_HASH_DIGITS = 16
# Hashes are written in letters, so that no rule finds a number in one.
_LETTERS = str.maketrans("0123456789abcdef", "abcdefghijklmnop")


@dataclass(frozen=True)
class Privacy:
    """The treatment of personal data.

    Args:
        mode: mask writes the kind in place of data, and hash a keyed hash after it.
        fingerprint: of the key of hashes; None for other modes.
    """

    mode: Mode = "ignore"
    fingerprint: str | None = None

    @property
    def replaces(self) -> bool:
        """Return whether models see other texts, in training and in serving alike."""
        return self.mode in ("mask", "hash")

    def protect(self, text: str) -> str:
        """Return the text that models see.

        Raises:
            EnvironmentFault: hashes have no key in this process, or another one.
        """
        if self.mode == "mask":
            return replace(text, placeholder)
        if self.mode == "hash":
            assert self.fingerprint is not None
            key = key_of(self.fingerprint)
            return replace(text, lambda match: _hashed(match, key))
        return text

    def redact(self, text: str) -> str:
        """Return a text that a row left out of the data may be shown by."""
        return replace(text, placeholder) if self.mode in ("mask", "hash", "drop") else text

    def counts(self, text: str) -> Counter[str]:
        """Return the number of personal data of each kind in an unprotected text."""
        if self.mode == "ignore":
            return Counter()
        return Counter(match.kind for match in find(text))


IGNORE = Privacy()


def fingerprint(key: str) -> str:
    """Return the public name of a key, as hexadecimal digits."""
    digest = hmac.new(key.encode(), b"gristmill privacy key", hashlib.sha256)
    return digest.hexdigest()[:_FINGERPRINT_DIGITS]


@lru_cache(maxsize=4)
def key_of(expected: str) -> bytes:
    """Return the key of the environment.

    Args:
        expected: its fingerprint.

    Raises:
        EnvironmentFault: there is none, it is too short, or it is another one.
    """
    key = os.environ.get(KEY_VARIABLE, "")
    if not key:
        what = "is not set in this process, and clean.private: hash needs the key"
    elif len(key) < _SHORTEST_KEY:
        what = f"has {len(key)} characters, and a key has at least {_SHORTEST_KEY}"
    elif fingerprint(key) != expected:
        what = f"is the key {fingerprint(key)}, and clean.private_key says {expected}"
    else:
        return key.encode()
    raise EnvironmentFault(
        what,
        where=KEY_VARIABLE,
        remedy="set it to the key of the params on each node and for the service",
    )


def _hashed(match: PersonalData, key: bytes) -> str:
    """Return the kind of personal data with the HMAC of their value (RFC 2104)."""
    message = f"{match.kind}:{match.value}".encode()
    digest = hmac.new(key, message, hashlib.sha256).hexdigest()[:_HASH_DIGITS]
    return f"<{match.kind}:{digest.translate(_LETTERS)}>"
