"""Define the fields of texts and titles, in any language."""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from components.core import escaping
from components.core.sorted_arrays import distinct
from components.fields.base import Change, Reject, Summary
from components.fields.markup import without_tags
from components.fields.privacy import IGNORE, Privacy
from components.fields.scripts import SIGNS, main_script

_SPACE = re.compile(r"\s+")
_HAN = re.compile(r"[\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")
# Han characters, or a word of another script.
_RUN = re.compile(
    r"[\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]+"
    r"|(?:[^\W_\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]|[" + SIGNS + "])+"
)
_LONGEST_WORD = 30
_GRAM = 3
# Characters of which it is remembered whether they are significant.
_MOST_CHARACTERS = 1 << 16
# Characters of texts whose grams are remembered in large numbers.
_SHORT = 1000
# Text that is escaped twice is common. A dozen times is an attack.
_PASSES = 12
# MinHash: a pair of Jaccard similarity 0.8 shares a band with a probability of
# 1 - (1 - 0.8^4)^32 > 0.9999.
_BANDS = 32
_ROWS = 4
_PRIME_BITS = np.uint64(61)
_PRIME = np.uint64((1 << 61) - 1)
# Their hashes fit the fast caches of a processor.
_GRAMS_AT_ONCE = 128
_HASHES = np.random.default_rng(20261122).integers(
    1, 1 << 31, size=(2, _BANDS * _ROWS), dtype=np.uint64
)

_NON_JOINER = "\u200c"
_JOINER = "\u200d"
# Followed by tag characters it is the flag of a region.
_BLACK_FLAG = "\U0001f3f4"
_TAG_CHARACTER = re.compile(r"[\U000e0020-\U000e007f]")
# Skin tones of emoji.
_TONES = "\U0001f3fb\U0001f3fc\U0001f3fd\U0001f3fe\U0001f3ff"
_VARIATION = re.compile(r"[\ufe00-\ufe0f\U000e0100-\U000e01ef]")
# Scripts in which a joiner or a non-joiner between two letters is spelling: Arabic to Sinhala,
# Myanmar, Khmer and Mongolian.
_JOINED_SCRIPTS = re.compile(r"[\u0600-\u0dff\u1000-\u109f\u1780-\u18af]")
# Emoticons count like emoji. Letters and digits after a colon do not form one: "8:30".
_EMOTICON = re.compile(r"([:;=][-'^]?[()\[\]\\|*@$]|\^_*\^|-_+-|>_+<)")
_DECIMAL_POINT = re.compile(r"(?<=\d)\.(?=\d)")
# Reason for which a row is dropped, and the beginning of the changes by kind of data.
PERSONAL_DATA = "personal_data"
_PRIVATE = "private_"
_MARKS_THAT_COUNT = "!?#%+"
_SYMBOLS_THAT_DO_NOT = "~`^|"


class _Significant(dict[int, str | None]):
    """Table for `str.translate` that removes insignificant characters. It fills itself on use.

    Args:
        marks: punctuation that stays.
    """

    def __init__(self, marks: str) -> None:
        super().__init__()
        self._marks = marks

    def __missing__(self, code: int) -> str | None:
        if len(self) >= _MOST_CHARACTERS:
            self.clear()
        char = chr(code)
        stays = char in self._marks or _is_significant(char)
        self[code] = char if stays else None
        return self[code]


def _is_significant(char: str) -> bool:
    """Return whether a character is a letter, a digit, a combining sign or a symbol.

    Emoji are symbols.
    """
    if _VARIATION.match(char) or char in _SYMBOLS_THAT_DO_NOT:
        return False
    return (
        unicodedata.category(char)[0] in "LNMS"
        or char.isalnum()
        or _TAG_CHARACTER.match(char) is not None
    )


_FOR_EQUALITY = _Significant(_MARKS_THAT_COUNT)
_FOR_SIMILARITY = _Significant("")


def comparable(text: str) -> str:
    """Return the form of a text by which texts are compared for equality.

    Entities, width and case are folded. White space and plain punctuation are dropped. Emoji,
    emoticons, question and exclamation marks stay, because they change the meaning.
    """
    folded = unicodedata.normalize("NFKC", html.unescape(text)).lower()
    # Between digits the point distinguishes 3.5 from 35. U+2396 does not occur in texts.
    folded = _DECIMAL_POINT.sub("\u2396", folded)
    # Every second part is an emoticon, and stays as it is.
    parts = _EMOTICON.split(folded)
    parts[::2] = [part.translate(_FOR_EQUALITY) for part in parts[::2]]
    return "".join(parts)


# Cleaning needs that of one text several times. Few are kept: a service answers long texts too.
@lru_cache(maxsize=4)
def _content(text: str) -> str:
    """Return the letters, digits, combining signs and symbols of a text.

    Similarity is measured on them.
    """
    folded = unicodedata.normalize("NFKC", html.unescape(text)).lower()
    return folded.translate(_FOR_SIMILARITY)


def _has_content(text: str, least: int) -> bool:
    """Return whether a text has at least `least` letters, digits and combining signs.

    One emoji or emoticon is enough.
    """
    content = _content(text)
    left = least
    # Nearly every text has enough of them in its first characters.
    for char in content:
        if unicodedata.category(char)[0] in "LNM":
            left -= 1
            if left <= 0:
                return True
    if least <= 0 or _EMOTICON.search(text):
        return True
    return any(unicodedata.category(char) == "So" for char in content)


def _readable(text: str) -> tuple[str, int]:
    """Return a text cleaned once, and the number of tags that were removed."""
    untagged, tags = without_tags(html.unescape(text))
    printable = _without_controls(unicodedata.normalize("NFKC", untagged))
    return _SPACE.sub(" ", printable).strip(), tags


def _without_controls(text: str) -> str:
    """Return a text without controls, formats, surrogates and private use characters.

    Joiners stay where they are spelling.
    """
    if text.isprintable():
        return text
    result: list[str] = []
    for index, char in enumerate(text):
        if unicodedata.category(char)[0] != "C":
            result.append(char)
        elif char.isspace():
            result.append(" ")
        elif result and _is_spelling(char, result[-1], text[index + 1 : index + 2]):
            result.append(char)
    return "".join(result)


def _is_spelling(char: str, before: str, after: str) -> bool:
    """Return whether a format character belongs to the characters around it.

    It may be part of an emoji sequence, of a flag, or of a word in a script with joined letters.

    Args:
        char: the format character.
        before: the character before it.
        after: the character after it, or "".
    """
    if _TAG_CHARACTER.match(char):
        return before == _BLACK_FLAG or _TAG_CHARACTER.match(before) is not None
    if char not in (_NON_JOINER, _JOINER) or not after:
        return False
    if _JOINED_SCRIPTS.match(before) and _JOINED_SCRIPTS.match(after):
        return _is_significant(before) and _is_significant(after)
    is_emoji = (
        before in _TONES
        or _VARIATION.match(before) is not None
        or unicodedata.category(before) == "So"
    )
    return char == _JOINER and is_emoji and unicodedata.category(after) == "So"


def _fully_cleaned(value: str) -> tuple[str, int]:
    """Return a text cleaned until it no longer changes, and the number of removed tags.

    Raises:
        Reject: the text is escaped many times over.
    """
    text = value
    count = 0
    # Each step may uncover work for an earlier one, such as an entity inside an entity, or a
    # tag in full-width signs.
    for _ in range(_PASSES):
        before = text
        text, tags = _readable(text)
        count += tags
        if text == before:
            return text, count
    raise Reject("not_text", "escaped many times over")


def normalized(value: str, max_characters: int, privacy: Privacy = IGNORE) -> str:
    """Return the form of a text that models see; "" where nothing in it is readable.

    Args:
        value: the raw text.
        max_characters: longer texts are cut, after their personal data are replaced.
        privacy: the treatment of personal data.

    Raises:
        Reject: the text is escaped many times over.
    """
    text, _ = _fully_cleaned(value)
    before = ""
    # A cut may turn the beginning of a long number into a phone number.
    while text != before:
        before = text
        protected = privacy.protect(text)
        if protected != text:
            protected, _ = _fully_cleaned(protected)
        text = protected[:max_characters].rstrip(f" {_NON_JOINER}{_JOINER}")
    return text if _has_content(text, 1) else ""


def _grams(value: str) -> NDArray[np.uint64]:
    """Return the different character 3-grams (grams,) of a text's content, in ascending order."""
    return _grams_of_short(value) if len(value) <= _SHORT else _grams_of_long(value)


# A text is compared with several others, and a template's rows with many: 8 bytes a character.
@lru_cache(maxsize=1 << 13)
def _grams_of_short(value: str) -> NDArray[np.uint64]:
    """Return the grams of a text of at most `_SHORT` characters."""
    return distinct(_gram_codes(value))


@lru_cache(maxsize=1 << 6)
def _grams_of_long(value: str) -> NDArray[np.uint64]:
    """Return the grams of a longer text."""
    return distinct(_gram_codes(value))


def _gram_codes(value: str) -> NDArray[np.uint64]:
    """Return the character 3-grams (grams,) of a text's content, as numbers."""
    content = _content(value) or comparable(value)
    codes = np.frombuffer(content.encode("utf-32-le"), dtype=np.uint32).astype(np.uint64)
    if len(codes) <= _GRAM:
        codes = np.pad(codes, (0, _GRAM - len(codes) + 1))
    grams: NDArray[np.uint64] = (
        codes[:-2] * np.uint64(1 << 42) ^ codes[1:-1] * np.uint64(1 << 21) ^ codes[2:]
    )
    return grams


def _modulo_prime(numbers: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return the remainders of numbers divided by `_PRIME`, in place.

    The prime is 2^61 - 1, so the bits above the lower 61 are added to these. What is then less
    than the prime becomes a large number when the prime is subtracted.
    """
    above = numbers >> _PRIME_BITS
    numbers &= _PRIME
    numbers += above
    np.minimum(numbers, numbers - _PRIME, out=numbers)
    return numbers


class Text:
    """A string.

    Args:
        min_characters: a text with fewer letters and digits is of no use for learning. One emoji
            is enough.
        max_characters: longer texts are cut.
        privacy: the treatment of personal data.
    """

    arrow = pa.string()
    noun = "texts"
    equality = "equal but for case, width, spaces and plain punctuation"
    knobs: Mapping[str, str] = {
        "too_short": "clean.min_characters",
        PERSONAL_DATA: "clean.private",
    }

    def __init__(
        self,
        min_characters: int = 1,
        max_characters: int = 100_000,
        privacy: Privacy = IGNORE,
    ) -> None:
        self.min_characters = min_characters
        self.max_characters = max_characters
        self.privacy = privacy

    def normalize(self, value: Any) -> str:
        """Return the text after entities, tags, NFKC, control characters and white space.

        Personal data are replaced if the params say so. A normalized text does not change.

        Raises:
            Reject: the value is no text, is empty, or is escaped many times over.
        """
        if not isinstance(value, str):
            raise Reject("not_text", type(value).__name__)
        text = normalized(value, self.max_characters, self.privacy)
        if not text:
            raise Reject("empty")
        return text

    def clean(self, value: Any) -> str:
        """Return the normalized text.

        Raises:
            Reject: as `normalize`, the text is too short to learn from, or has personal data
                whose rows are dropped.
        """
        text = self.normalize(value)
        if not _has_content(text, self.min_characters):
            raise Reject("too_short", text)
        self._check_privacy(value, text)
        return text

    def _check_privacy(self, value: str, text: str) -> None:
        """Check that a text has no personal data, if their rows are dropped.

        Args:
            value: the raw text.
            text: the normalized text, which may be cut within a number.

        Raises:
            Reject: it has.
        """
        if self.privacy.mode != "drop":
            return
        if self._may_be_cut(text):
            text, _ = _fully_cleaned(value)
        kinds = self.privacy.counts(text)
        if kinds:
            raise Reject(PERSONAL_DATA, ", ".join(sorted(kinds)))

    def _may_be_cut(self, text: str) -> bool:
        """Return whether a normalized text may have lost its end."""
        # At most a space and a joiner are stripped after a cut.
        return len(text) > self.max_characters - 3

    def redacted(self, value: str) -> str:
        """Return a raw text for the quarantine, without personal data that are kept out."""
        with suppress(Reject):
            return self.privacy.redact(_fully_cleaned(value)[0])
        return ""

    def changes(self, value: Any, cleaned: Any) -> Mapping[str, Change]:
        """Return the changes "cut" (in characters) and "tags" (in HTML tags).

        "private_phone" and the like are in numbers of personal data, which only a report leaves.
        """
        result: dict[str, Change] = {}
        may_have_tags = "<" in value or "&" in value or "\uff1c" in value
        may_be_cut = self._may_be_cut(cleaned)
        may_be_protected = self.privacy.replaces and "<" in cleaned
        whole = cleaned
        tags = 0
        if may_have_tags or may_be_cut or may_be_protected:
            whole, tags = _fully_cleaned(value)
        if may_be_protected or self.privacy.mode == "report":
            for kind, count in self.privacy.counts(whole).items():
                result[f"{_PRIVATE}{kind}"] = Change(count, count)
            whole = self.privacy.protect(whole)
        if len(whole) > self.max_characters:
            result["cut"] = Change(len(whole) - len(cleaned), len(whole))
        if tags:
            result["tags"] = Change(tags, tags)
        return result

    def describe_change(self, change: str, summary: Summary) -> str:
        """Return the line of one kind of change."""
        if change == "cut":
            lost = f"{summary.share_lost} of their characters lost"
            return (
                f"{summary.rows_of_all(self.noun)} cut at {self.max_characters:,} characters "
                f"({lost}): clean.max_characters"
            )
        if change.startswith(_PRIVATE):
            verb = "are replaced" if self.privacy.replaces else "stay"
            kind = change.removeprefix(_PRIVATE)
            return (
                f"{summary.rows_of_all(self.noun)} have personal data of the kind {kind} "
                f"({summary.lost:,.0f}, which {verb}): clean.private"
            )
        return (
            f"{summary.lost:,.0f} HTML tags taken out of {summary.rows_of_all(self.noun)}; "
            "their text stays"
        )

    def key(self, value: Any) -> str:
        """Return the key of a text, which equal texts share (see `comparable`)."""
        return comparable(value)

    def lsh_bands(self, value: Any) -> NDArray[np.uint64] | None:
        """Return MinHash bands (32,) over character 3-grams (Broder 1997)."""
        # A gram that occurs twice has the same hashes, and so the same least ones.
        grams = _gram_codes(value)
        least = np.full(_BANDS * _ROWS, _PRIME)
        for start in range(0, len(grams), _GRAMS_AT_ONCE):
            part = grams[start : start + _GRAMS_AT_ONCE, None]
            # (grams, hashes). The products wrap around, which is as good for hashing.
            hashed = part * _HASHES[0]
            hashed += _HASHES[1]
            np.minimum(least, _modulo_prime(hashed).min(axis=0), out=least)
        bands = least.reshape(_BANDS, _ROWS)
        mixed = np.zeros(_BANDS, dtype=np.uint64)
        for row in range(_ROWS):
            mixed = mixed * np.uint64(1_000_003) + bands[:, row]
        return mixed

    def similar(self, a: Any, b: Any) -> float:
        """Return the Jaccard similarity of the character 3-grams."""
        first = _grams(a)
        second = _grams(b)
        merged = np.sort(np.concatenate([first, second]))
        shared = int(np.count_nonzero(merged[1:] == merged[:-1]))
        return shared / (len(merged) - shared)

    def profile(self, value: Any) -> Mapping[str, float | str]:
        """Return the length in characters and the main script."""
        return {"length": float(len(value)), "script": main_script(value)}

    def pieces(self, value: Any) -> Sequence[str]:
        """Return pairs of adjacent Han characters, and words of other scripts in lower case."""
        pieces: list[str] = []
        for run in _RUN.findall(value.lower()):
            if _HAN.match(run):
                pieces += [run[i : i + 2] for i in range(max(1, len(run) - 1))]
            else:
                pieces.append(run[:_LONGEST_WORD])
        return pieces

    def vector(self, value: Any) -> NDArray[np.float32] | None:  # noqa: ARG002
        """Return None: drift uses the pieces of texts."""
        return None

    def show(self, value: Any) -> str:
        """Return the text escaped for HTML."""
        return escaping.html(str(value))


class Title(Text):
    """A line above a text. A missing title is the empty string."""

    noun = "titles"

    def normalize(self, value: Any) -> str:
        """Return the normalized title, which is empty where nothing in it is readable.

        Raises:
            Reject: the value is no text, or is escaped many times over.
        """
        try:
            return "" if value is None else super().normalize(value)
        except Reject as error:
            if error.reason != "empty":
                raise
            return ""

    def clean(self, value: Any) -> str:
        """Return the normalized title.

        Raises:
            Reject: as `normalize`, or it has personal data whose rows are dropped.
        """
        title = self.normalize(value)
        if title:
            self._check_privacy(value, title)
        return title

    def changes(self, value: Any, cleaned: Any) -> Mapping[str, Change]:
        """Return the changes of a title that is not empty."""
        return super().changes(value, cleaned) if cleaned else {}

    def lsh_bands(self, value: Any) -> NDArray[np.uint64] | None:  # noqa: ARG002
        """Return None: the texts alone decide whether two rows are near-duplicates."""
        return None

    def profile(self, value: Any) -> Mapping[str, float | str]:  # noqa: ARG002
        """Return no statistics: those of the text are enough."""
        return {}
