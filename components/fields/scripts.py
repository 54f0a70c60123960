"""Detect the scripts that texts are written in."""

from __future__ import annotations

import bisect
import unicodedata
from collections import Counter
from functools import lru_cache
from itertools import chain

OTHER = "other"
# First and last code point of the blocks that hold letters (Unicode 16, Blocks.txt).
_BLOCKS = (
    (0x0041, 0x024F, "latin"),
    (0x0250, 0x02AF, "latin"),
    (0x0370, 0x03FF, "greek"),
    (0x0400, 0x052F, "cyrillic"),
    (0x0590, 0x05FF, "hebrew"),
    (0x0600, 0x06FF, "arabic"),
    (0x0750, 0x077F, "arabic"),
    (0x08A0, 0x08FF, "arabic"),
    (0x0900, 0x097F, "devanagari"),
    (0x0E00, 0x0E7F, "thai"),
    (0x1100, 0x11FF, "hangul"),
    (0x1E00, 0x1EFF, "latin"),
    (0x1F00, 0x1FFF, "greek"),
    (0x2E80, 0x2FDF, "han"),
    (0x3005, 0x3007, "han"),
    (0x3040, 0x30FF, "kana"),
    (0x3130, 0x318F, "hangul"),
    (0x31F0, 0x31FF, "kana"),
    (0x3400, 0x9FFF, "han"),
    (0xA8E0, 0xA8FF, "devanagari"),
    (0xAC00, 0xD7FF, "hangul"),
    (0xF900, 0xFAFF, "han"),
    (0xFB50, 0xFDFF, "arabic"),
    (0xFE70, 0xFEFF, "arabic"),
    (0x20000, 0x3FFFF, "han"),
)
# Blocks of scripts that write vowels, tones or accents as separate signs, for sets of
# characters in regular expressions. Python's \w lacks them, and would divide a word of Hindi or
# Thai at each sign.
_SIGNED = (
    (0x0300, 0x036F),
    (0x0483, 0x0489),
    (0x0591, 0x0DFF),
    (0x0E30, 0x109F),
    (0x135D, 0x135F),
    (0x1712, 0x1CFF),
    (0x1DC0, 0x1DFF),
    (0x20D0, 0x20F0),
    (0xA8E0, 0xABFF),
)
_SIGNED_CODES = chain.from_iterable(range(first, last + 1) for first, last in _SIGNED)
SIGNS = "".join(
    character for character in map(chr, _SIGNED_CODES) if unicodedata.category(character)[0] == "M"
)
_STARTS = [start for start, _, _ in _BLOCKS]
# Name of a script -> a sign that stands for its letters, and the other way round.
_SCRIPT_NAMES = sorted({OTHER, *(name for _, _, name in _BLOCKS)})
_SIGN_OF = {name: chr(ord("a") + number) for number, name in enumerate(_SCRIPT_NAMES)}
_NAME_OF = {sign: name for name, sign in _SIGN_OF.items()}
# Characters whose sign is remembered.
_MOST_SIGNS = 1 << 16
# Japanese mixes kana with Han characters. Chinese has almost no kana.
_JAPANESE = 0.2


@lru_cache(maxsize=1 << 16)
def script_of(char: str) -> str:
    """Return the script of a letter, or "other" if its block is not listed here."""
    code = ord(char)
    position = bisect.bisect_right(_STARTS, code) - 1
    if position < 0:
        return OTHER
    _, end, name = _BLOCKS[position]
    return name if code <= end else OTHER


class _ScriptSigns(dict[int, str | None]):
    """Table for `str.translate` from letters to one sign for each script.

    Other characters are dropped. The table fills itself on use.
    """

    def __missing__(self, code: int) -> str | None:
        if len(self) >= _MOST_SIGNS:
            self.clear()
        char = chr(code)
        self[code] = _SIGN_OF[script_of(char)] if char.isalpha() else None
        return self[code]


_SCRIPT_SIGNS = _ScriptSigns()


def main_script(text: str) -> str:
    """Return the script of most letters of a text, or "other" if there are no letters."""
    signs = text.translate(_SCRIPT_SIGNS)
    counts = Counter({_NAME_OF[sign]: signs.count(sign) for sign in set(signs)})
    if not counts:
        return OTHER
    if counts["kana"] >= _JAPANESE * (counts["kana"] + counts["han"]) > 0:
        counts["kana"] += counts.pop("han", 0)
    return max(counts, key=lambda name: (counts[name], name))
