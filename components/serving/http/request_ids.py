"""Ids of requests.

An id cannot be guessed. It says which replica made it, and when. So any replica can tell an answer
of a moment ago from an answer that never was.
"""

from __future__ import annotations

import secrets
import time
from zlib import crc32

# by then an answer of another replica is in the log, also on a busy machine
_LATELY_S = 10.0
# hexadecimal digits; random digits come first, because people name answers by the beginning
_RANDOM = 16
_MARK = 4
_TIME = 12


def mark(replica: str) -> str:
    """Return the digits that mark a replica's ids; two replicas rarely have the same."""
    return f"{crc32(replica.encode()) & 0xFFFF:0{_MARK}x}"


def new(marked: str) -> str:
    """Return a new id of 32 hexadecimal digits.

    It holds 64 random bits, the replica's mark, and the milliseconds since 1970.

    Args:
        marked: the mark of the replica.
    """
    return f"{secrets.token_hex(_RANDOM // 2)}{marked}{time.time_ns() // 1_000_000:0{_TIME}x}"


def just_given_elsewhere(id_: str, marked: str) -> bool:
    """Return whether an id says that another replica answered a moment ago.

    Args:
        id_: of a request.
        marked: the mark of this replica.
    """
    if len(id_) != _RANDOM + _MARK + _TIME or id_[_RANDOM:-_TIME] == marked:
        return False
    try:
        return abs(time.time() - int(id_[-_TIME:], 16) / 1000) < _LATELY_S
    except ValueError:
        return False
