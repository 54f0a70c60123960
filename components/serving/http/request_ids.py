"""The id of a request: what nobody can guess, at which replica it came, and when; so that any replica can tell an answer of a moment ago from one that never was."""

from __future__ import annotations

import secrets
import time
from zlib import crc32

_LATELY_S = 10.0  # what another replica has answered is in the log by then, on a busy machine, too
_RANDOM, _MARK, _TIME = (
    16,
    4,
    12,
)  # hexadecimal digits; chance goes first, for people name answers by the beginning


def mark(replica: str) -> str:
    """What tells a replica's ids from others', mostly."""
    return f"{crc32(replica.encode()) & 0xFFFF:0{_MARK}x}"


def new(marked: str) -> str:
    """32 hexadecimal digits: 64 random bits, the replica's mark, milliseconds since 1970."""
    return f"{secrets.token_hex(_RANDOM // 2)}{marked}{time.time_ns() // 1_000_000:0{_TIME}x}"


def just_given_elsewhere(id_: str, marked: str) -> bool:
    """Whether an id says that another replica than this one has answered a moment ago."""
    if len(id_) != _RANDOM + _MARK + _TIME or id_[_RANDOM:-_TIME] == marked:
        return False
    try:
        return abs(time.time() - int(id_[-_TIME:], 16) / 1000) < _LATELY_S
    except ValueError:
        return False
