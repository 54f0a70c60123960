"""Normal forms of characters, in the format that SentencePiece and tokenizers read.

A map is a trie of UTF-8 bytes, as a double array of darts-clone, and the normal forms behind it.
The double array is that of Aoe (1989), doi:10.1109/32.31365.
"""

from __future__ import annotations

import struct
from collections import defaultdict
from collections.abc import Mapping

import numpy as np

_OFFSET_BIT = 10
_HAS_LEAF = 1 << 8
_LEAF = 1 << 31
# A lookup may read any unit of a block.
_BLOCK = 256


def charsmap(characters: Mapping[str, str]) -> bytes:
    """Return the map of characters to normal forms, for `normalizers.Precompiled`."""
    forms = bytearray()
    positions = {}
    for char, form in characters.items():
        positions[char.encode()] = len(forms)
        forms += form.encode() + b"\0"
    units = _double_array(positions)
    return struct.pack("<I", len(units)) + units + bytes(forms)


def _double_array(values: Mapping[bytes, int]) -> bytes:
    """Return the units of a trie, four bytes each.

    A node has a base: the unit of its child by a byte is at the base, xor the byte. The value
    of a key is at the base itself.

    Args:
        values: key -> value. No key contains a zero byte.
    """
    children: dict[bytes, set[int]] = defaultdict(set)
    for key in values:
        for length, byte in enumerate(key):
            children[key[:length]].add(byte)
        children[key].add(0)
    units = {0: 0}
    positions = {b"": 0}
    bases: set[int] = set()
    first = 1
    # A prefix sorts before its extensions.
    for prefix in sorted(children):
        while first in units or first in bases:
            first += 1
        base = first
        while base in bases or any(base ^ byte in units for byte in children[prefix]):
            base += 1
        bases.add(base)
        position = positions[prefix]
        units[position] |= (position ^ base) << _OFFSET_BIT
        for byte in children[prefix]:
            child = base ^ byte
            if byte:
                units[child] = byte
                positions[prefix + bytes([byte])] = child
            else:
                units[child] = _LEAF | values[prefix]
                units[position] |= _HAS_LEAF
    size = (max(units) // _BLOCK + 1) * _BLOCK
    array = np.zeros(size, dtype="<u4")
    array[list(units)] = list(units.values())
    return array.tobytes()
