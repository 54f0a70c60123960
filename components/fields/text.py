"""Text in any language; Chinese and English are equals."""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from components.fields.base import Reject

# A comment ends at the next "-->" or is none: looking past a further "<!--" would be quadratic, and a client could stop a server with it.
_TAG = re.compile(r"</?[a-zA-Z][^<>]{0,500}>|<!--(?:(?!<!--).)*?-->", re.DOTALL)
_SPACE = re.compile(r"\s+")
_HAN = re.compile(r"[\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")
_RUN = re.compile(r"[\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]+|[^\W_\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]+")  # Han characters, or a word of another script
_LONGEST_WORD = 30
_GRAM = 3
_PASSES = 12  # escaped twice is common, a dozen times is an attack
_BANDS, _ROWS = 32, 4  # MinHash: a pair of Jaccard 0.8 shares a band with 1 - (1 - 0.8^4)^32 > 0.9999
_PRIME = np.uint64((1 << 61) - 1)
_HASHES = np.random.default_rng(20261122).integers(1, 1 << 31, size=(2, _BANDS * _ROWS), dtype=np.uint64)


def comparable(text: str) -> str:
    """What decides whether two texts are equal: unescaped, NFKC, lower case, letters and digits only."""
    folded = unicodedata.normalize("NFKC", html.unescape(text)).lower()
    return "".join(char for char in folded if char.isalnum())


def _readable(text: str) -> str:
    """One pass of cleaning."""
    text = unicodedata.normalize("NFKC", _TAG.sub(" ", html.unescape(text)))
    # Controls, formats (zero-width, direction marks), surrogates and private use carry nothing to read.
    text = "".join(char if unicodedata.category(char)[0] != "C" else " " if char.isspace() else "" for char in text)
    return _SPACE.sub(" ", text).strip()


class Text:
    """A string.

    Args:
        min_characters: letters and digits below which a text is no use for learning.
        max_characters: longer texts are cut.
    """

    arrow = pa.string()

    def __init__(self, min_characters: int = 1, max_characters: int = 100_000) -> None:
        self.min_characters, self.max_characters = min_characters, max_characters

    def normalise(self, value: Any) -> str:
        """Entities, tags, NFKC, control characters, white space. A normalised text stays as it is.

        Raises:
            Reject: what is no text, has nothing left, or is escaped many times over.
        """
        if not isinstance(value, str):
            raise Reject("not_text", type(value).__name__)
        text = value
        for _ in range(_PASSES):  # each step may uncover work for one before it: an entity behind an entity, a tag in full-width signs
            before, text = text, _readable(text)
            if text == before:
                break
        else:
            raise Reject("not_text", "escaped many times over")
        text = text[: self.max_characters].rstrip()
        if not comparable(text):
            raise Reject("empty")
        return text

    def clean(self, value: Any) -> str:
        """`normalise`, and refuse what is too short to learn from."""
        text = self.normalise(value)
        if len(comparable(text)) < self.min_characters:
            raise Reject("too_short", text)
        return text

    def key(self, value: Any) -> str:
        """Equal for equal texts (see `comparable`)."""
        return comparable(value)

    def signature(self, value: Any) -> NDArray[np.uint64] | None:
        """MinHash bands (32,) over character 3-grams (Broder 1997)."""
        grams = np.fromiter(self._grams(value), dtype=np.uint64)
        hashed = (grams[:, None] * _HASHES[0] + _HASHES[1]) % _PRIME  # (grams, hashes); the products wrap, which hashes as well
        bands = hashed.min(axis=0).reshape(_BANDS, _ROWS)
        mixed = np.zeros(_BANDS, dtype=np.uint64)
        for row in range(_ROWS):
            mixed = mixed * np.uint64(1_000_003) + bands[:, row]
        return mixed

    def similar(self, a: Any, b: Any) -> float:
        """The Jaccard similarity of the character 3-grams."""
        one, two = set(self._grams(a)), set(self._grams(b))
        return len(one & two) / len(one | two)

    @staticmethod
    def _grams(value: str) -> set[int]:
        codes = np.frombuffer(comparable(value).encode("utf-32-le"), dtype=np.uint32).astype(np.uint64)
        if len(codes) <= _GRAM:
            codes = np.pad(codes, (0, _GRAM - len(codes) + 1))
        grams = codes[:-2] * np.uint64(1 << 42) ^ codes[1:-1] * np.uint64(1 << 21) ^ codes[2:]
        return set(grams.tolist())

    def profile(self, value: Any) -> Mapping[str, float | str]:
        """Length in characters and the main script."""
        letters = sum(char.isalpha() for char in value)
        han = len(_HAN.findall(value))
        return {"length": float(len(value)), "script": "han" if han * 2 > letters else "other"}

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
        return html.escape(str(value))


class Title(Text):
    """A line above a text, which may be missing: then it is the empty string."""

    def normalise(self, value: Any) -> str:
        """As of a text; what holds nothing to read is no title."""
        try:
            return "" if value is None else super().normalise(value)
        except Reject as error:
            if error.reason != "empty":
                raise
            return ""

    def clean(self, value: Any) -> str:
        """`normalise`."""
        return self.normalise(value)

    def signature(self, value: Any) -> NDArray[np.uint64] | None:  # noqa: ARG002
        """None: whether two rows are alike is for their texts to say."""
        return None

    def profile(self, value: Any) -> Mapping[str, float | str]:  # noqa: ARG002
        """Nothing: of the text alone."""
        return {}
