"""Text in any language; Chinese and English are equals."""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from components.core import escaping
from components.fields.base import Change, Reject, Summary
from components.fields.markup import without_tags
from components.fields.scripts import SIGNS, main_script

_SPACE = re.compile(r"\s+")
_HAN = re.compile(r"[\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")
_RUN = re.compile(
    r"[\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]+|(?:[^\W_\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]|["
    + SIGNS
    + "])+"
)  # Han characters, or a word of another script
_LONGEST_WORD = 30
_GRAM = 3
_PASSES = 12  # escaped twice is common, a dozen times is an attack
_BANDS, _ROWS = (
    32,
    4,
)  # MinHash: a pair of Jaccard 0.8 shares a band with 1 - (1 - 0.8^4)^32 > 0.9999
_PRIME = np.uint64((1 << 61) - 1)
_HASHES = np.random.default_rng(20261122).integers(
    1, 1 << 31, size=(2, _BANDS * _ROWS), dtype=np.uint64
)

_NON_JOINER, _JOINER = "\u200c", "\u200d"
_BLACK_FLAG = "\U0001f3f4"  # followed by tag characters it is the flag of a region
_TAG_CHARACTER = re.compile(r"[\U000e0020-\U000e007f]")
_TONES = "\U0001f3fb\U0001f3fc\U0001f3fd\U0001f3fe\U0001f3ff"  # of skin
_VARIATION = re.compile(r"[\ufe00-\ufe0f\U000e0100-\U000e01ef]")
# Scripts in which a joiner or a non-joiner between two letters is spelling: Arabic to Sinhala, Myanmar, Khmer and Mongolian.
_JOINED_SCRIPTS = re.compile(r"[\u0600-\u0dff\u1000-\u109f\u1780-\u18af]")
# A smile says as much as an emoji. Letters and digits behind a colon do not count as one: "8:30".
_EMOTICON = re.compile(r"([:;=][-'^]?[()\[\]\\|*@$]|\^_*\^|-_+-|>_+<)")
_DECIMAL_POINT = re.compile(r"(?<=\d)\.(?=\d)")
_MARKS_THAT_COUNT = "!?#%+"
_SYMBOLS_THAT_DO_NOT = "~`^|"


class _Significant(dict[int, str | None]):
    """What `str.translate` leaves of each character in comparing: a cache that fills itself."""

    def __init__(self, marks: str) -> None:
        super().__init__()
        self._marks = marks

    def __missing__(self, code: int) -> str | None:
        char = chr(code)
        self[code] = char if char in self._marks or _is_significant(char) else None
        return self[code]


def _is_significant(char: str) -> bool:
    """Return whether a character is a letter, a digit, a combining sign or a symbol such as an emoji."""
    if _VARIATION.match(char) or char in _SYMBOLS_THAT_DO_NOT:
        return False
    return (
        unicodedata.category(char)[0] in "LNMS"
        or char.isalnum()
        or _TAG_CHARACTER.match(char) is not None
    )


_FOR_EQUALITY, _FOR_SIMILARITY = _Significant(_MARKS_THAT_COUNT), _Significant("")


def comparable(text: str) -> str:
    """Return what decides whether two texts are equal.

    Entities, width and case are folded. White space and plain punctuation are dropped. Emoji, emoticons, question and exclamation marks stay: they change what is said.
    """
    folded = unicodedata.normalize("NFKC", html.unescape(text)).lower()
    # Between digits the point tells 3.5 from 35; U+2396 is no character of texts.
    folded = _DECIMAL_POINT.sub("\u2396", folded)
    # Every second part is an emoticon, and stays as it is.
    parts = _EMOTICON.split(folded)
    parts[::2] = [part.translate(_FOR_EQUALITY) for part in parts[::2]]
    return "".join(parts)


def _content(text: str) -> str:
    """Return the letters, digits, combining signs and symbols of a text: what similarity is measured on."""
    return unicodedata.normalize("NFKC", html.unescape(text)).lower().translate(_FOR_SIMILARITY)


def _says_enough(text: str, least: int) -> bool:
    """Return whether a text has so many letters, digits and combining signs. One emoji or emoticon is enough."""
    content = _content(text)
    if _EMOTICON.search(text) or any(unicodedata.category(char) == "So" for char in content):
        return True
    return sum(unicodedata.category(char)[0] in "LNM" for char in content) >= least


def _readable(text: str) -> tuple[str, int]:
    """Clean once. Returns the text, and how many tags were taken out."""
    untagged, tags = without_tags(html.unescape(text))
    printable = _without_controls(unicodedata.normalize("NFKC", untagged))
    return _SPACE.sub(" ", printable).strip(), tags


def _without_controls(text: str) -> str:
    """Return a text without controls, formats, surrogates and private use, which carry nothing to read; joiners stay where they are spelling."""
    if text.isprintable():
        return text
    kept: list[str] = []
    for place, char in enumerate(text):
        if unicodedata.category(char)[0] != "C":
            kept.append(char)
        elif char.isspace():
            kept.append(" ")
        elif kept and _is_spelling(char, kept[-1], text[place + 1 : place + 2]):
            kept.append(char)
    return "".join(kept)


def _is_spelling(char: str, before: str, after: str) -> bool:
    """Return whether a format character belongs to the characters around it: of an emoji sequence, a flag, or a word of a script with joined letters."""
    if _TAG_CHARACTER.match(char):
        return before == _BLACK_FLAG or _TAG_CHARACTER.match(before) is not None
    if char not in (_NON_JOINER, _JOINER) or not after:
        return False
    if _JOINED_SCRIPTS.match(before) and _JOINED_SCRIPTS.match(after):
        return _is_significant(before) and _is_significant(after)
    pictures = (
        before in _TONES
        or _VARIATION.match(before) is not None
        or unicodedata.category(before) == "So"
    )
    return char == _JOINER and pictures and unicodedata.category(after) == "So"


def _whole(value: str) -> tuple[str, int]:
    """Return a text cleaned until it stays as it is, and how many tags were taken out. Raises `Reject`."""
    text, count = value, 0
    # Each step may uncover work for one before it: an entity behind an entity, a tag in full-width signs.
    for _ in range(_PASSES):
        before = text
        text, tags = _readable(text)
        count += tags
        if text == before:
            return text, count
    raise Reject("not_text", "escaped many times over")


# A text is compared with several others in a row.
@lru_cache(maxsize=256)
def _grams(value: str) -> frozenset[int]:
    """Return the numbers of the character 3-grams of a text's content."""
    codes = np.frombuffer(
        (_content(value) or comparable(value)).encode("utf-32-le"), dtype=np.uint32
    ).astype(np.uint64)
    if len(codes) <= _GRAM:
        codes = np.pad(codes, (0, _GRAM - len(codes) + 1))
    grams = codes[:-2] * np.uint64(1 << 42) ^ codes[1:-1] * np.uint64(1 << 21) ^ codes[2:]
    return frozenset(grams.tolist())


class Text:
    """A string.

    Args:
        min_characters: letters and digits below which a text is no use for learning; an emoji is enough.
        max_characters: longer texts are cut.
    """

    arrow = pa.string()
    noun = "texts"
    equality = "equal but for case, width, spaces and plain punctuation"
    knobs: Mapping[str, str] = {"too_short": "clean.min_characters"}

    def __init__(self, min_characters: int = 1, max_characters: int = 100_000) -> None:
        self.min_characters, self.max_characters = min_characters, max_characters

    def normalize(self, value: Any) -> str:
        """Entities, tags, NFKC, control characters, white space. A normalized text stays as it is.

        Raises:
            Reject: what is no text, has nothing left, or is escaped many times over.
        """
        if not isinstance(value, str):
            raise Reject("not_text", type(value).__name__)
        text = _whole(value)[0]
        text = text[: self.max_characters].rstrip(f" {_NON_JOINER}{_JOINER}")
        if not _says_enough(text, 1):
            raise Reject("empty")
        return text

    def clean(self, value: Any) -> str:
        """`normalize`, and refuse what is too short to learn from."""
        text = self.normalize(value)
        if not _says_enough(text, self.min_characters):
            raise Reject("too_short", text)
        return text

    def changes(self, value: Any, cleaned: Any) -> Mapping[str, Change]:
        """Return {"cut": in characters} of a text longer than `max_characters`, {"tags": how many} of one with HTML."""
        found: dict[str, Change] = {}
        tagged = "<" in value or "&" in value or "\uff1c" in value
        # At most a space and a joiner are stripped behind a cut.
        whole, tags = (
            _whole(value) if tagged or len(cleaned) > self.max_characters - 3 else (cleaned, 0)
        )
        if len(whole) > self.max_characters:
            found["cut"] = Change(len(whole) - len(cleaned), len(whole))
        if tags:
            found["tags"] = Change(tags, tags)
        return found

    def tell(self, change: str, summary: Summary) -> str:
        """Return the line of one kind of change."""
        if change == "cut":
            lost = f"{summary.share_lost} of their characters lost"
            return f"{summary.rows_of_all(self.noun)} cut at {self.max_characters:,} characters ({lost}): clean.max_characters"
        return f"{summary.lost:,.0f} HTML tags taken out of {summary.rows_of_all(self.noun)}; their text stays"

    def key(self, value: Any) -> str:
        """Equal for equal texts (see `comparable`)."""
        return comparable(value)

    def signature(self, value: Any) -> NDArray[np.uint64] | None:
        """MinHash bands (32,) over character 3-grams (Broder 1997)."""
        grams = np.fromiter(_grams(value), dtype=np.uint64)
        hashed = (
            grams[:, None] * _HASHES[0] + _HASHES[1]
        ) % _PRIME  # (grams, hashes); the products wrap, which hashes as well
        bands = hashed.min(axis=0).reshape(_BANDS, _ROWS)
        mixed = np.zeros(_BANDS, dtype=np.uint64)
        for row in range(_ROWS):
            mixed = mixed * np.uint64(1_000_003) + bands[:, row]
        return mixed

    def similar(self, a: Any, b: Any) -> float:
        """The Jaccard similarity of the character 3-grams."""
        one, two = _grams(a), _grams(b)
        return len(one & two) / len(one | two)

    def profile(self, value: Any) -> Mapping[str, float | str]:
        """Length in characters and the main script."""
        return {"length": float(len(value)), "script": main_script(value)}

    def pieces(self, value: Any) -> Sequence[str]:
        """Pairs of neighbouring Han characters, and words of other scripts in lower case."""
        found: list[str] = []
        for run in _RUN.findall(value.lower()):
            if _HAN.match(run):
                found += [run[i : i + 2] for i in range(max(1, len(run) - 1))]
            else:
                found.append(run[:_LONGEST_WORD])
        return found

    def vector(self, value: Any) -> NDArray[np.float32] | None:  # noqa: ARG002
        """None: its pieces tell."""
        return None

    def show(self, value: Any) -> str:
        """Escaped for HTML."""
        return escaping.html(str(value))


class Title(Text):
    """A line above a text, which may be missing: then it is the empty string."""

    noun = "titles"

    def normalize(self, value: Any) -> str:
        """As of a text; what holds nothing to read is no title."""
        try:
            return "" if value is None else super().normalize(value)
        except Reject as error:
            if error.reason != "empty":
                raise
            return ""

    def clean(self, value: Any) -> str:
        """`normalize`."""
        return self.normalize(value)

    def changes(self, value: Any, cleaned: Any) -> Mapping[str, Change]:
        """Return what was taken from a title that there is."""
        return super().changes(value, cleaned) if cleaned else {}

    def signature(self, value: Any) -> NDArray[np.uint64] | None:  # noqa: ARG002
        """None: whether two rows are alike is for their texts to say."""
        return None

    def profile(self, value: Any) -> Mapping[str, float | str]:  # noqa: ARG002
        """Nothing: of the text alone."""
        return {}
